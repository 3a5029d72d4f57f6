"""The client, through the real SDK, against a real server that misbehaves."""

import asyncio
import gc
import json
import logging
import os
import pickle
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime

import pytest

from sotopia_gym.errors import (
    AnswerError,
    AuthenticationError,
    BadRequestError,
    BudgetExceededError,
    EmptyAnswerError,
    ModelError,
    RefusalError,
    TruncatedAnswerError,
    UnavailableModelError,
    UnknownModelError,
)
from sotopia_gym.llm.client import ChatRequest, ClientOptions, from_spec, run_sync
from tests import fault_server as faults

HELLO = [{"role": "user", "content": "Hello?"}]
SCHEMA = {
    "type": "object",
    "properties": {"score": {"type": "integer"}},
    "required": ["score"],
    "additionalProperties": False,
}
KEY = "sk-very-secret-0123456789"


@pytest.fixture(scope="session", autouse=True)
def _sdk_is_imported():
    # Its import takes longer than the time-outs below.
    with faults.FaultServer() as server:
        client = from_spec(server.spec())
        run_sync(client.complete(HELLO))
        client.close()


def ask(client, messages=HELLO, **arguments):
    return run_sync(client.complete(messages, **arguments))


def ask_many(client, count):
    async def gather():
        questions = ([{"role": "user", "content": f"{n}?"}] for n in range(count))
        return await asyncio.gather(*map(client.complete, questions))

    return run_sync(gather())


def chain(error):
    """An error and all that hang on it."""
    seen = []
    while error is not None and error not in seen:
        seen.append(error)
        error = error.__cause__ or error.__context__
    return seen


# What goes out and what comes back


def test_an_answer_with_all_that_is_known_of_it(fault_server, connect):
    client = connect(prices={"test-model": (2.5, 10)})
    completion = ask(client, temperature=0.0, seed=7, max_tokens=50)
    assert completion.text == "Hello."
    assert (completion.prompt_tokens, completion.completion_tokens) == (100, 10)
    assert (completion.model, completion.fingerprint) == ("test-model-as-served", "fp_1")
    assert completion.cost == pytest.approx((100 * 2.5 + 10 * 10) / 1e6)
    assert not completion.cached
    [request] = fault_server.requests
    assert request.body == {
        "model": "test-model",
        "messages": HELLO,
        "temperature": 0.0,
        "seed": 7,
        "max_tokens": 50,
    }


def test_what_is_not_given_is_not_sent(fault_server, connect):
    ask(connect())
    assert fault_server.requests[0].body == {"model": "test-model", "messages": HELLO}


def test_schemas_are_strict(fault_server, connect):
    ask(connect(), schema=SCHEMA)
    assert fault_server.requests[0].body["response_format"] == {
        "type": "json_schema",
        "json_schema": {"name": "answer", "strict": True, "schema": SCHEMA},
    }


@pytest.mark.parametrize(
    ("behaviour", "text"),
    [
        (faults.malformed_json(), '{"score": 7,, "reasoning"}'),
        (faults.truncated_json(), '{"reasoning": "They agreed on'),
        (faults.nan_json(), '{"score": NaN}'),
        (faults.wrapped_json(), None),
    ],
)
def test_what_an_answer_says_is_for_the_caller_to_judge(fault_server, connect, behaviour, text):
    fault_server.script.append(behaviour)
    completion = ask(connect(), schema=SCHEMA)
    assert completion.text == text if text else '{"score": 7}' in completion.text
    assert fault_server.count == 1


@pytest.mark.parametrize(
    ("behaviour", "error", "text"),
    [
        (faults.refuse(), RefusalError, "I can't help with that."),
        (faults.empty(), EmptyAnswerError, ""),
        (faults.ok(None), EmptyAnswerError, ""),
        (faults.ok("  \n"), EmptyAnswerError, "  \n"),
        (faults.truncated('{"sco'), TruncatedAnswerError, '{"sco'),
        (faults.ok("Well, ", finish_reason="content_filter"), TruncatedAnswerError, "Well, "),
    ],
)
def test_useless_answers_raise_and_are_paid_for(fault_server, connect, behaviour, error, text):
    fault_server.script.append(behaviour)
    client = connect(prices={"test-model": (1, 1)})
    with pytest.raises(error) as raised:
        ask(client)
    assert isinstance(raised.value, AnswerError)
    assert raised.value.text == text
    assert fault_server.count == 1
    usage = client.usage
    assert (usage.requests, usage.retries, usage.failures) == (1, 0, 1)
    assert usage.cost == pytest.approx(110e-6)
    assert raised.value.completion.cost == usage.cost
    assert pickle.loads(pickle.dumps(raised.value)).completion == raised.value.completion


# What is tried again


@pytest.mark.parametrize(
    "fault",
    [
        faults.error(408),
        faults.error(409),
        faults.rate_limited(),
        faults.error(500),
        faults.error(503),
        faults.html(502),
        faults.reset(),
    ],
)
def test_passing_faults_are_tried_again(fault_server, connect, sleeps, fault):
    fault_server.script.extend([fault, fault])
    client = connect()
    assert ask(client).text == "Hello."
    assert fault_server.count == 3
    assert (client.usage.requests, client.usage.retries, client.usage.failures) == (3, 2, 0)
    assert len(sleeps) == 2
    assert all(0 <= pause <= bound for pause, bound in zip(sleeps, (0.5, 1.0), strict=True))


@pytest.mark.parametrize("fault", [faults.hang(), faults.slow_loris()], ids=["hang", "loris"])
def test_an_answer_that_does_not_come_is_tried_again(fault_server, connect, fault):
    fault_server.default = fault
    client = connect(attempt_timeout=0.3, max_retries=2)
    with pytest.raises(UnavailableModelError, match=r"3 requests; .* no answer within 0.3 s"):
        ask(client)
    assert fault_server.count == 3


@pytest.mark.parametrize(
    ("fault", "cause"),
    [
        (faults.error(500, "Overloaded."), "HTTP 500: .*Overloaded"),
        (faults.rate_limited(), "HTTP 429"),
        (faults.reset(), "no connection"),
    ],
)
def test_tries_come_to_an_end(fault_server, connect, fault, cause):
    fault_server.default = fault
    client = connect(max_retries=2)
    with pytest.raises(UnavailableModelError, match=f"3 requests.*{cause}.*max_retries is 2") as e:
        ask(client)
    assert e.value.attempts == 3
    assert fault_server.count == 3
    assert client.usage.failures == 1


def test_nobody_at_the_address(connect):
    client = connect("m@http://127.0.0.1:9/v1", max_retries=1)
    with pytest.raises(UnavailableModelError, match=r"m@http://127.0.0.1:9/v1 after 2 requests"):
        ask(client)


def test_retry_after_is_honoured(fault_server, connect, sleeps):
    date = format_datetime(datetime.now(UTC) + timedelta(hours=2), usegmt=True)
    fault_server.script.extend([faults.rate_limited("17"), faults.rate_limited(date)])
    ask(connect(total_timeout=10_000))
    assert sleeps[0] == 17
    assert 7000 < sleeps[1] <= 7200
    assert fault_server.count == 3


@pytest.mark.parametrize("header", ["soon", "nan", "-3"])
def test_a_senseless_retry_after_does_no_harm(fault_server, connect, sleeps, header):
    fault_server.script.append(faults.rate_limited(header))
    assert ask(connect()).text == "Hello."
    assert 0 <= sleeps[0] <= 0.5


def test_the_total_timeout_ends_it(fault_server, connect, sleeps):
    fault_server.default = faults.rate_limited("4")
    client = connect(total_timeout=10, max_retries=100)
    with pytest.raises(UnavailableModelError, match=r"3 requests.*HTTP 429.*total_timeout is 10 s"):
        ask(client)
    assert fault_server.count == 3
    assert sleeps == [4, 4]


@pytest.mark.parametrize(
    ("fault", "error", "message"),
    [
        (faults.error(400, "Bad."), BadRequestError, "Bad"),
        (faults.error(422, "Bad."), BadRequestError, "Bad"),
        (faults.error(401, "No."), AuthenticationError, "SOTOPIA_GYM_API_KEY"),
        (faults.error(403, "No."), AuthenticationError, "SOTOPIA_GYM_API_KEY"),
        (faults.unknown_model(), UnknownModelError, r"http://127.0.0.1:\d+/v1 has no .*test-model"),
        (faults.error(429, code="insufficient_quota"), ModelError, "no quota"),
        (faults.html(), ModelError, r"expected a chat completion .*nginx.*/v1"),
        (faults.as_json({"error": "odd"}), ModelError, "expected a chat completion .*odd"),
        (faults.as_json({"choices": []}), ModelError, "expected a chat completion"),
        (faults.as_json([]), ModelError, "expected a chat completion"),
    ],
)
def test_lasting_faults_are_not_tried_again(fault_server, connect, fault, error, message):
    fault_server.default = fault
    client = connect()
    with pytest.raises(error, match=message):
        ask(client)
    assert fault_server.count == 1
    assert (client.usage.requests, client.usage.retries, client.usage.failures) == (1, 0, 1)


# What servers do not understand


def formats(server):
    return [request.body.get("response_format", {}).get("type") for request in server.requests]


def test_schemas_fall_back_to_json_and_then_to_words(fault_server, connect):
    fault_server.script.extend([faults.no_response_format()] * 2)
    client = connect()
    ask(client, schema=SCHEMA)
    ask(client, schema=SCHEMA)
    assert formats(fault_server) == ["json_schema", "json_object", None, None]
    assert HELLO == [{"role": "user", "content": "Hello?"}]
    for request in fault_server.requests[2:]:
        assert request.prompt.startswith("Hello?\n\n")
        assert json.dumps(SCHEMA) in request.prompt
    assert (client.usage.requests, client.usage.retries) == (4, 0)


def test_json_without_schema_is_enough_where_it_works(fault_server, connect):
    message = "Invalid schema for response_format 'answer'."
    fault_server.script.append(faults.error(400, message, param="response_format"))
    client = connect()
    ask(client, schema=SCHEMA)
    ask(client, schema=SCHEMA)
    ask(client)
    assert formats(fault_server) == ["json_schema", "json_object", "json_object", None]
    assert fault_server.requests[3].prompt == "Hello?"


@pytest.mark.parametrize(
    ("param", "value", "replaced"),
    [
        ("temperature", 0.0, None),
        ("seed", 3, None),
        ("max_tokens", 50, "max_completion_tokens"),
    ],
)
def test_parameters_that_a_model_lacks(fault_server, connect, caplog, param, value, replaced):
    fault_server.script.append(faults.unsupported(param))
    client = connect()
    ask(client, **{param: value})
    ask(client, **{param: value})
    first, second, third = (request.body for request in fault_server.requests)
    assert first[param] == value
    assert param not in second
    assert second == third
    assert replaced is None or second[replaced] == value
    assert (client.usage.requests, client.usage.retries) == (3, 0)
    assert len(caplog.records) == 1


def test_all_rejections_at_once(fault_server, connect):
    """A server that understands nothing, asked by many at once."""

    def picky(request):
        for name in ("response_format", "temperature", "seed", "max_tokens"):
            if name in request.body:
                return faults.unsupported(name)
        return faults.ok()(request)

    fault_server.default = picky
    client = connect(max_concurrency=4)

    async def gather():
        settings = {"schema": SCHEMA, "temperature": 0.0, "seed": 1, "max_tokens": 5}
        return await asyncio.gather(*(client.complete(HELLO, **settings) for _ in range(20)))

    assert [completion.text for completion in run_sync(gather())] == ["Hello."] * 20
    assert 20 + 5 <= fault_server.count <= 20 + 4 * 5
    assert client.usage.failures == 0


def test_a_bad_value_is_no_missing_parameter(fault_server, connect):
    message = "max_tokens is too large: 999999."
    fault_server.default = faults.error(400, message, param="max_tokens")
    with pytest.raises(BadRequestError, match="too large"):
        ask(connect(), max_tokens=999_999)
    assert fault_server.count == 1


def test_a_server_that_always_complains_is_left_alone(fault_server, connect):
    fault_server.default = faults.no_response_format()
    with pytest.raises(BadRequestError):
        ask(connect(), schema=SCHEMA)
    assert fault_server.count == 3


# Concurrency


def test_the_cap_holds(fault_server, connect):
    fault_server.latency = 0.02
    ask_many(connect(max_concurrency=8), 64)
    assert fault_server.count == 64
    assert 2 <= fault_server.max_in_flight <= 8


def test_the_smallest_cap_holds_for_all_clients_loops_and_threads(fault_server, connect):
    fault_server.latency = 0.02
    other = f"other-model@{fault_server.url}/"
    clients = [connect(max_concurrency=3), connect(other, max_concurrency=9)]
    ask_many(clients[0], 1)
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(lambda client: ask_many(client, 16), clients * 2))
    assert fault_server.count == 65
    assert 2 <= fault_server.max_in_flight <= 3


def test_a_closed_client_caps_nobody(fault_server, connect):
    small, large = connect(max_concurrency=1), connect(max_concurrency=6)
    ask(small)
    small.close()
    small.close()
    fault_server.latency = 0.05
    ask_many(large, 24)
    assert 2 <= fault_server.max_in_flight <= 6
    assert ask(small).text == "Hello."


def test_a_forgotten_client_caps_nobody(fault_server, connect):
    small = from_spec(fault_server.spec(), ClientOptions(max_concurrency=1))
    ask(small)
    del small
    gc.collect()
    fault_server.latency = 0.05
    ask_many(connect(max_concurrency=6), 24)
    assert 2 <= fault_server.max_in_flight <= 6


def test_a_thousand_calls_at_once(fault_server, connect):
    completions = ask_many(connect(max_concurrency=32), 1000)
    assert len(completions) == fault_server.count == 1000
    assert fault_server.max_in_flight <= 32


def test_a_pause_holds_no_slot(fault_server, connect):
    fault_server.script.append(faults.error(500))
    second_done = threading.Event()

    async def sleep(seconds):
        assert await asyncio.to_thread(second_done.wait, 20)

    client = connect(max_concurrency=1, sleep=sleep)
    with ThreadPoolExecutor(1) as pool:
        first = pool.submit(ask, client)
        while not fault_server.count:
            second_done.wait(0.01)
        ask(client)
        second_done.set()
        assert first.result().text == "Hello."
    assert fault_server.count == 3


def test_cancelling_the_caller_cancels_the_request_and_frees_its_slot(fault_server, connect):
    fault_server.script.append(faults.hang())
    client = connect(max_concurrency=1)

    async def cancel():
        running = asyncio.create_task(client.complete(HELLO))
        waiting = asyncio.create_task(client.complete(HELLO))
        while not fault_server.count:
            await asyncio.sleep(0.01)
        waiting.cancel()
        running.cancel()
        await asyncio.wait([running, waiting])
        assert running.cancelled()
        assert waiting.cancelled()
        return await client.complete(HELLO)

    assert run_sync(cancel()).text == "Hello."
    assert fault_server.abandoned.wait(20)
    assert fault_server.count == 2


def test_run_sync_works_inside_a_loop_and_nests(connect):
    client = connect()

    async def inner():
        return ask(client).text

    async def outer():
        return run_sync(inner())

    assert run_sync(outer()) == "Hello."


def test_run_sync_passes_errors_on():
    async def fail():
        raise KeyError("x")

    async def outer():
        run_sync(fail())

    for coroutine in (fail, outer):
        with pytest.raises(KeyError, match="x"):
            run_sync(coroutine())


@pytest.mark.skipif(not hasattr(os, "fork"), reason="there are no forks here")
def test_a_forked_child_has_a_network_of_its_own(fault_server, tmp_path):
    script = f"""
import os, pathlib
from sotopia_gym.llm.client import ClientOptions, from_spec, run_sync
cache = pathlib.Path({str(tmp_path / "cache.db")!r})
client = from_spec({fault_server.spec()!r}, ClientOptions(cache=cache))
def ask(attempt):
    chat = client.complete([{{"role": "user", "content": "Hello?"}}], attempt=attempt)
    return run_sync(chat)
assert not ask(0).cached
child = os.fork()
assert ask(0).cached
assert not ask(1 + child).cached
client.close()
if child:
    assert os.waitpid(child, 0)[1] == 0
    assert ask(0).cached
else:
    os._exit(0)
"""
    subprocess.run([sys.executable, "-c", script], check=True, timeout=60)
    assert fault_server.count == 3


# Money


def test_running_totals(fault_server, connect, tmp_path):
    fault_server.script.extend([faults.error(500), faults.ok(), faults.refuse()])
    client = connect(prices={"test-model": (10, 100)}, cache=tmp_path / "cache.db")
    ask(client)
    ask(client)
    with pytest.raises(RefusalError):
        ask(client, attempt=1)
    usage = client.usage
    assert (usage.requests, usage.retries, usage.cache_hits, usage.failures) == (3, 1, 1, 1)
    assert (usage.prompt_tokens, usage.completion_tokens) == (200, 20)
    assert usage.cost == pytest.approx(2 * (100 * 10 + 10 * 100) / 1e6)


def test_a_budget_is_a_clean_stop(fault_server, connect):
    fault_server.latency = 0.02
    client = connect(prices={"test-model": (10, 100)}, max_cost=0.01, max_concurrency=4)

    async def gather():
        calls = (client.complete(HELLO) for _ in range(40))
        return await asyncio.gather(*calls, return_exceptions=True)

    results = run_sync(gather())
    answered = [one for one in results if not isinstance(one, BaseException)]
    stopped = [one for one in results if isinstance(one, BudgetExceededError)]
    assert len(answered) + len(stopped) == 40
    assert 5 <= len(answered) <= 5 + 3
    assert fault_server.count == len(answered)
    assert "max_cost is 0.0100 USD" in str(stopped[0])


def test_a_budget_needs_a_price(fault_server):
    spec = fault_server.spec("gpt-4o")
    with pytest.raises(ModelError, match=r"price of 'gpt-4o' is not known.*prices=\{'gpt-4o'"):
        from_spec(spec, ClientOptions(max_cost=1.0))


def test_prices_are_for_openais_models_only(fault_server, connect, monkeypatch):
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    monkeypatch.setenv("OPENAI_BASE_URL", fault_server.url)
    assert ask(connect("gpt-4o-mini")).cost == pytest.approx((100 * 0.15 + 10 * 0.6) / 1e6)
    assert ask(connect(fault_server.spec("gpt-4o-mini"))).cost is None


def test_a_server_that_counts_no_tokens(fault_server, connect, caplog):
    fault_server.default = faults.ok(usage=None)
    client = connect(prices={"test-model": (1, 1)}, max_cost=1)
    assert ask(client).cost is None
    assert client.usage.cost == 0
    assert "max_cost cannot hold" in caplog.text


# Specs and secrets


def test_each_server_gets_its_own_key_and_nothing_else(fault_server, connect, monkeypatch):
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    monkeypatch.setenv("OPENAI_BASE_URL", fault_server.url)
    monkeypatch.setenv("OPENAI_ORG_ID", "org-secret")
    monkeypatch.setenv("OPENAI_PROJECT_ID", "project-secret")
    monkeypatch.setenv("OPENAI_ADMIN_KEY", "admin-secret")
    monkeypatch.setenv("OPENAI_CUSTOM_HEADERS", "X-Mine: custom-secret")
    ask(connect("gpt-4o"))
    ask(connect())
    monkeypatch.setenv("SOTOPIA_GYM_API_KEY", "my-own")
    ask(connect())
    openai, none, own = (request.headers for request in fault_server.requests)
    assert openai["authorization"] == f"Bearer {KEY}"
    assert openai["openai-organization"] == "org-secret"
    assert none["authorization"] == "Bearer none"
    assert own["authorization"] == "Bearer my-own"
    for headers in (none, own):
        assert "secret" not in json.dumps(headers)


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ("gpt-4o", "set OPENAI_API_KEY.*'gpt-4o@http://HOST:PORT/v1'"),
        ("", "expected a model"),
        ("http://localhost/v1", "expected a model"),
        ("m@ftp://localhost/v1", "expected a model"),
        ("m@http://", "no valid address"),
        ("m@http://localhost:port/v1", "no valid address"),
        ("m@http://me:sk-secret@localhost/v1", "has credentials"),
        ("m@http://localhost/v1?key=sk-secret", "has credentials, a query"),
        ("@http://me:sk-secret@localhost/v1", "expected a model"),
        ("m@localhost:8000/v1", "expected a model"),
        ("m@host/v1", "expected a model"),
        ("m@me:sk-secret@host:8000/v1", "expected a model"),
    ],
)
def test_bad_specs_are_explained(spec, message):
    with pytest.raises(ModelError, match=message) as raised:
        from_spec(spec)
    assert "sk-secret" not in str(raised.value)


def test_a_model_may_have_an_at_sign(fault_server, connect):
    client = connect(f"@cf/llama@2@{fault_server.url}/")
    ask(client)
    assert fault_server.requests[0].body["model"] == "@cf/llama@2"
    assert client.name == f"@cf/llama@2@{fault_server.url}"


@pytest.mark.parametrize(
    "options",
    [
        {"max_concurrency": 0},
        {"attempt_timeout": 0},
        {"total_timeout": -1},
        {"max_retries": -1},
        {"max_cost": -0.5},
    ],
)
def test_bad_options_are_explained(options):
    [name] = options
    with pytest.raises(ValueError, match=f"{name} must be"):
        ClientOptions(**options)


def repeats_key(request):
    return faults.ok(f"You are {request.headers['authorization']}")(request)


@pytest.mark.parametrize(
    "fault",
    [
        faults.echoes_key(401),
        faults.echoes_key(400),
        faults.echoes_key(404),
        faults.echoes_key(500),
        lambda request: faults.Reply(200, request.headers["authorization"].encode()),
        lambda request: faults.ok(None, refusal=request.headers["authorization"])(request),
        lambda request: faults.ok(request.headers["authorization"], finish_reason="length")(
            request
        ),
        faults.hang(),
        repeats_key,
    ],
)
def test_keys_are_nowhere(fault_server, connect, monkeypatch, caplog, tmp_path, fault):
    monkeypatch.setenv("SOTOPIA_GYM_API_KEY", KEY)
    caplog.set_level(logging.DEBUG)
    fault_server.default = fault
    client = connect(cache=tmp_path / "cache.db", max_retries=1, attempt_timeout=0.3)
    if fault is repeats_key:
        assert ask(client).text == "You are Bearer ***"
    else:
        with pytest.raises(ModelError) as raised:
            ask(client)
        for error in chain(raised.value):
            assert KEY not in f"{error} {error!r} {error.args} {vars(error)}"
    assert f"Bearer {KEY}" == fault_server.requests[0].headers["authorization"]
    client.close()
    kept = b"".join(path.read_bytes() for path in tmp_path.iterdir())
    for place in (repr(client), str(client), client.name, repr(client.usage), caplog.text):
        assert KEY not in place
    assert KEY.encode() not in kept


@pytest.mark.parametrize("key", ["EMPTY", "1"])
def test_a_word_that_serves_as_key_is_left_in_answers(fault_server, connect, monkeypatch, key):
    monkeypatch.setenv("SOTOPIA_GYM_API_KEY", key)
    fault_server.default = faults.ok("The box is EMPTY, and holds 10.")
    assert ask(connect()).text == "The box is EMPTY, and holds 10."


@pytest.mark.parametrize("key", ["sk-sécret", "sk-sec ret", "sk-sec\nret"])
def test_keys_that_do_not_fit_a_header_are_caught_early(monkeypatch, fault_server, key):
    monkeypatch.setenv("SOTOPIA_GYM_API_KEY", key)
    with pytest.raises(ModelError, match=r"SOTOPIA_GYM_API_KEY is no key.*ASCII") as raised:
        from_spec(fault_server.spec())
    assert "sk-" not in str(raised.value)


def test_importing_the_library_does_not_import_the_sdk():
    modules = "sotopia_gym, sotopia_gym.llm.chat, sotopia_gym.llm.client, sotopia_gym.llm.batch"
    script = f"import sys, {modules}; assert 'openai' not in sys.modules"
    subprocess.run([sys.executable, "-c", script], check=True, timeout=60)


# The cache


def test_a_second_run_asks_nothing(fault_server, connect, tmp_path):
    fault_server.default = faults.ok(lambda request: f"{request.prompt} #{fault_server.count}")
    cache = tmp_path / "new" / "cache.db"
    first = ask_many(connect(cache=cache, prices={"test-model": (1, 1)}), 20)
    assert fault_server.count == 20
    client = connect(cache=cache)
    second = ask_many(client, 20)
    assert fault_server.count == 20
    assert [one.text for one in first] == [one.text for one in second]
    assert all(one.cached and one.cost == 0 and one.prompt_tokens == 100 for one in second)
    assert (client.usage.requests, client.usage.cache_hits) == (0, 20)


def test_another_process_asks_nothing_that_is_known(fault_server, connect, tmp_path):
    cache = tmp_path / "cache.db"
    fault_server.script.append(faults.ok("The first answer."))
    ask(connect(cache=cache))
    script = f"""
import pathlib
from sotopia_gym.llm.client import ClientOptions, from_spec, run_sync
client = from_spec({fault_server.spec()!r}, ClientOptions(cache=pathlib.Path({str(cache)!r})))
print(run_sync(client.complete({HELLO!r})).text, client.usage.requests)
print(run_sync(client.complete({HELLO!r}, attempt=1)).text, client.usage.requests)
"""
    command = [sys.executable, "-c", script]
    done = subprocess.run(command, check=True, timeout=60, capture_output=True, text=True)
    assert done.stdout == "The first answer. 0\nHello. 1\n"
    # It closed nothing, and still ended quietly.
    assert done.stderr == ""
    assert fault_server.count == 2


def test_the_key_has_all_that_changes_an_answer_and_nothing_else(monkeypatch, tmp_path):
    base = {"messages": HELLO}
    variants = [
        base,
        base | {"messages": [*HELLO, {"role": "user", "content": "More."}]},
        base | {"schema": SCHEMA},
        base | {"temperature": 0.0},
        base | {"temperature": 1.0},
        base | {"seed": 0},
        base | {"max_tokens": 9},
        base | {"attempt": 1},
    ]
    client = from_spec("m@http://h/v1")
    keys = {client.key_of(ChatRequest(**variant)) for variant in variants}
    keys |= {
        from_spec(spec).key_of(ChatRequest(**base)) for spec in ("n@http://h/v1", "m@http://i/v1")
    }
    assert len(keys) == len(variants) + 2
    monkeypatch.setenv("SOTOPIA_GYM_API_KEY", KEY)
    options = ClientOptions(max_concurrency=1, attempt_timeout=1, cache=tmp_path / "c.db")
    same = from_spec("m@http://H/v1/", options)
    assert same.key_of(ChatRequest(**base)) == client.key_of(ChatRequest(**base))
    integer = ChatRequest(messages=tuple(HELLO), temperature=0)
    assert client.key_of(integer) == client.key_of(ChatRequest(**variants[3]))


@pytest.mark.parametrize("fault", [faults.refuse(), faults.empty(), faults.truncated()])
def test_useless_answers_are_not_kept(fault_server, connect, tmp_path, fault):
    fault_server.script.append(fault)
    client = connect(cache=tmp_path / "cache.db")
    with pytest.raises(AnswerError):
        ask(client)
    assert ask(client).text == "Hello."
    assert fault_server.count == 2
