"""The Batch API, against the server's own files and batches."""

import json

import pytest

from sotopia_gym.errors import (
    BatchError,
    BudgetExceededError,
    ModelError,
    UnavailableModelError,
)
from sotopia_gym.llm import batch as batch_module
from sotopia_gym.llm.batch import run_batch
from sotopia_gym.llm.client import ChatRequest, run_sync
from tests import fault_server as faults


def questions(count):
    return [
        ChatRequest(messages=[{"role": "user", "content": f"{n}?"}], temperature=0.0, max_tokens=9)
        for n in range(count)
    ]


def run(client, requests, state):
    return run_sync(run_batch(client, requests, state))


def paths(server):
    return [f"{request.method} {request.path}" for request in server.others]


@pytest.fixture
def state(tmp_path):
    return tmp_path / "batch.json"


@pytest.fixture
def client(connect, tmp_path):
    return connect(cache=tmp_path / "cache.db", prices={"test-model": (1, 1)}, max_retries=0)


def test_a_batch_that_spends_the_budget_is_still_collected(fault_server, connect, state, tmp_path):
    fault_server.script += [faults.ok("One."), faults.ok("Two."), faults.error(400)]
    client = connect(cache=tmp_path / "cache.db", prices={"test-model": (1, 1)}, max_cost=1e-9)
    report = run(client, questions(3), state)
    assert (report.answered, len(report.failed)) == (2, 1)
    assert not state.exists()
    with pytest.raises(BudgetExceededError):
        run(client, questions(4), state)


def test_an_answer_may_hold_any_character(fault_server, client, state):
    said = "One.\u2028Two.\u0085Three.\x0bFour."
    fault_server.default = faults.ok(said)
    assert run(client, questions(2), state).answered == 2
    asked = questions(2)[1]
    assert run_sync(client.complete(asked.messages, temperature=0.0, max_tokens=9)).text == said


def test_a_normal_run_finds_the_answers_of_a_batch(fault_server, client, state, sleeps):
    fault_server.default = faults.ok(lambda request: f"Answer to {request.prompt}")
    report = run(client, questions(5) + questions(2), state)
    assert (report.cached, report.answered, report.failed) == (0, 5, {})
    assert report.cost == pytest.approx(5 * 110e-6 / 2)
    assert client.usage.cost == pytest.approx(report.cost)
    assert paths(fault_server) == [
        "POST /v1/files",
        "POST /v1/batches",
        "GET /v1/batches/batch-0",
        "GET /v1/batches/batch-0",
        "GET /v1/files/output_file_id-of-batch-0/content",
    ]
    assert sleeps == [5.0]
    assert not state.exists()
    lines = [json.loads(line) for line in fault_server.files["file-0"].splitlines()]
    assert [line["custom_id"] for line in lines] == [client.key_of(one) for one in questions(5)]
    assert lines[0]["body"]["messages"] == questions(1)[0].messages
    asked = questions(5)[3]
    completion = run_sync(client.complete(asked.messages, temperature=0.0, max_tokens=9))
    assert (completion.text, completion.cached) == ("Answer to 3?", True)
    assert fault_server.count == 0


def test_what_is_known_is_not_sent(fault_server, client, state):
    run(client, questions(3), state)
    assert run(client, questions(3), state).cached == 3
    assert len(fault_server.batches) == 1
    report = run(client, questions(4), state)
    assert (report.cached, report.answered) == (3, 1)


def test_nothing_to_do(fault_server, client, state):
    report = run(client, [], state)
    assert (report.cached, report.answered, report.failed) == (0, 0, {})
    assert not fault_server.others


def test_failed_lines_are_reported_and_not_kept(fault_server, client, state):
    fault_server.script.extend([faults.ok(), faults.error(400, "Bad."), faults.refuse()])
    report = run(client, questions(3), state)
    assert report.answered == 1
    keys = [client.key_of(one) for one in questions(3)]
    assert list(report.failed) == [keys[2], keys[1]]
    assert "Bad." in report.failed[keys[1]]
    assert "declined" in report.failed[keys[2]]
    assert run(client, questions(3), state).cached == 1


def test_an_interrupted_run_goes_on_with_its_batch(fault_server, connect, client, state, tmp_path):
    class Interrupted(Exception):
        pass

    async def interrupt(seconds):
        raise Interrupted

    first = connect(cache=tmp_path / "cache.db", sleep=interrupt)
    with pytest.raises(Interrupted):
        run(first, questions(3), state)
    assert "batch-0" in state.read_text()
    report = run(client, questions(4), state)
    assert (report.cached, report.answered, report.failed) == (0, 4, {})
    assert len(fault_server.files["file-0"].splitlines()) == 3
    assert len(fault_server.batches) == 2
    assert not state.exists()


def test_a_server_that_goes_away_for_a_while_does_not_lose_the_batch(
    fault_server, client, state, monkeypatch
):
    def broken(request):
        if request.method == "GET":
            return faults.error(500)
        return answer(request)

    answer = fault_server.answer_other
    monkeypatch.setattr(fault_server, "answer_other", broken)
    with pytest.raises(UnavailableModelError):
        run(client, questions(2), state)
    monkeypatch.undo()
    assert run(client, questions(2), state).answered == 2
    assert len(fault_server.batches) == 1


@pytest.mark.parametrize(
    ("limit", "most", "batches"), [("LINES", 2, 3), ("BYTES", 600, 3), ("BYTES", 1, 5)]
)
def test_large_jobs_are_split(fault_server, client, state, monkeypatch, limit, most, batches):
    monkeypatch.setattr(batch_module, f"MAX_{limit}", most)
    assert run(client, questions(5), state).answered == 5
    assert len(fault_server.batches) == batches


@pytest.mark.parametrize("status", ["failed", "expired", "cancelled"])
def test_a_batch_that_fails_as_a_whole(fault_server, client, state, status):
    fault_server.batch_status = status
    with pytest.raises(BatchError, match=f"batch-0 .* has {status}: The batch is bad"):
        run(client, questions(2), state)
    assert not state.exists()
    fault_server.batch_status = "completed"
    assert run(client, questions(2), state).answered == 2


def test_a_client_without_cache_has_no_place_for_answers(connect, state):
    with pytest.raises(BatchError, match="cache=PATH"):
        run(connect(), questions(1), state)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("{", "is no state of a batch"),
        ("[]", "is no state of a batch"),
        ('{"batch": "batch-0", "client": "m@http://elsewhere/v1"}', "m@http://elsewhere/v1"),
    ],
)
def test_a_state_of_something_else(client, state, content, message):
    state.write_text(content)
    with pytest.raises(BatchError, match=message):
        run(client, questions(1), state)
    assert state.exists()


def test_a_server_without_batches(fault_server, client, state, monkeypatch):
    monkeypatch.setattr(fault_server, "answer_other", lambda request: faults.error(404, "Gone."))
    with pytest.raises(ModelError, match="Gone"):
        run(client, questions(1), state)
