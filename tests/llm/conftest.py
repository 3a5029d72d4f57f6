"""What the tests of language models share."""

import pytest

from sotopia_gym.llm.client import ClientOptions, from_spec


class Sleeps(list[float]):
    """Sleeps no time and remembers for how long it was asked to."""

    async def __call__(self, seconds: float) -> None:
        self.append(seconds)


@pytest.fixture
def sleeps():
    return Sleeps()


@pytest.fixture
def connect(fault_server, sleeps):
    """Makes clients of the fault server that pause for no time, and closes them at the end."""
    clients = []

    def make(spec=None, *, sleep=sleeps, **options):
        client = from_spec(spec or fault_server.spec(), ClientOptions(**options), sleep=sleep)
        clients.append(client)
        return client

    yield make
    for client in clients:
        client.close()
