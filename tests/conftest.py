"""What all tests share: no keys, no network, a home folder of their own."""

import os
from pathlib import Path

import pytest

from sotopia_gym.files import HOME_VARIABLE, models_folder
from sotopia_gym.tasks import official, suites
from tests.fault_server import FaultServer

for name in [n for n in os.environ if n.endswith(("_API_KEY", "_API_BASE", "_BASE_URL"))]:
    del os.environ[name]
os.environ["HF_HUB_OFFLINE"] = "1"  # TRL tells its makers about every training


@pytest.fixture(scope="session")
def data() -> Path:
    """The folder of real data that some tests run on."""
    default = Path(__file__).parents[2] / "shared" / "data"
    folder = Path(os.environ.get("SOTOPIA_GYM_TEST_DATA", default))
    if not folder.is_dir():
        pytest.skip(f"no test data at {folder}; set SOTOPIA_GYM_TEST_DATA to have this test run")
    return folder


@pytest.fixture(scope="session", autouse=True)
def home(tmp_path_factory):
    """A home folder for imported suites, with the models of the user's own."""
    models = models_folder()
    folder = tmp_path_factory.mktemp("home")
    if models.is_dir():
        (folder / "models").symlink_to(models, target_is_directory=True)
    before = os.environ.get(HOME_VARIABLE)
    os.environ[HOME_VARIABLE] = str(folder)
    yield folder
    if before is None:
        del os.environ[HOME_VARIABLE]
    else:
        os.environ[HOME_VARIABLE] = before


@pytest.fixture(scope="session")
def official_suites(data, home) -> list[str]:
    """The official suites, imported; their names."""
    imported = official.import_folder(data / "sotopia")
    for suite in imported.suites:
        suites.save_suite(suite)
    return [suite.name for suite in imported.suites]


@pytest.fixture(scope="module")
def one_thread():
    """PyTorch computes with one thread, so that tests side by side do not wait for each other."""
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture
def fault_server():
    """A server that speaks OpenAI's protocol and does what it is told."""
    with FaultServer() as server:
        yield server
