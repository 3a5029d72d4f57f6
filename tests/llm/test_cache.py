"""The cache on disk: shared, and never in the way."""

import json
import sqlite3
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import pytest

from sotopia_gym.llm import cache as cache_module
from sotopia_gym.llm.cache import AnswerCache, cache_key
from sotopia_gym.llm.chat import Completion
from sotopia_gym.llm.client import run_sync

ANSWER = Completion("Grüße \U0001f600", 3, 5, "model", "fp", cost=0.5)
HELLO = [{"role": "user", "content": "Hello?"}]


@pytest.fixture
def path(tmp_path):
    return tmp_path / "folder" / "cache.db"


@pytest.fixture
def cache(path):
    cache = AnswerCache(path)
    yield cache
    cache.close()


def test_what_is_kept_comes_back_for_free(cache):
    assert cache.get("key") is None
    cache.put("key", ANSWER)
    assert cache.get("key") == replace(ANSWER, cached=True, cost=0.0)
    assert cache.get("another") is None


def test_the_first_answer_stays(cache):
    cache.put("key", ANSWER)
    cache.put("key", Completion("Late.", 1, 1))
    assert cache.get("key").text == ANSWER.text


def test_a_closed_cache_opens_again(cache):
    cache.close()
    cache.put("key", ANSWER)
    cache.close()
    cache.close()
    assert cache.get("key").text == ANSWER.text


def test_keys_do_not_depend_on_the_order_of_names():
    assert cache_key({"a": 1, "b": [{"c": 2, "d": 3}]}) == cache_key(
        {"b": [{"d": 3, "c": 2}], "a": 1}
    )
    assert len(cache_key({})) == 64


def test_threads_share_a_cache(cache):
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda n: cache.put(str(n % 50), ANSWER), range(400)))
        assert all(pool.map(lambda n: cache.get(str(n)), range(50)))


def test_processes_share_a_cache(cache, path, caplog):
    script = f"""
import logging, pathlib, sys
from sotopia_gym.llm.cache import AnswerCache
from sotopia_gym.llm.chat import Completion
cache = AnswerCache(pathlib.Path({str(path)!r}))
for number in range(200):
    cache.put(f"{{sys.argv[1]}}-{{number}}", Completion("x", 1, 1))
"""
    writers = [
        subprocess.Popen([sys.executable, "-c", script, str(n)], stderr=subprocess.PIPE)
        for n in range(4)
    ]
    for writer in writers:
        _, errors = writer.communicate(timeout=60)
        assert (writer.returncode, errors) == (0, b"")
    assert all(cache.get(f"{n}-{number}") for n in range(4) for number in range(200))
    assert not caplog.records


def spoil_header(path):
    path.write_bytes(b"This is no database. " * 100)


def spoil_table(path):
    with sqlite3.connect(path) as connection:
        connection.execute("CREATE TABLE answers (something TEXT)")
    connection.close()


def make_folder(path):
    path.mkdir()


@pytest.mark.parametrize("spoil", [spoil_header, spoil_table, make_folder])
def test_a_spoilt_cache_is_not_in_the_way(fault_server, connect, path, caplog, spoil):
    path.parent.mkdir()
    spoil(path)
    client = connect(cache=path)
    for _ in range(2):
        assert run_sync(client.complete(HELLO)).text == "Hello."
    assert fault_server.count == 2
    assert str(path) in caplog.text
    assert {record.levelname for record in caplog.records} == {"WARNING"}


@pytest.mark.parametrize("kept", ["{", "[]", "null", json.dumps({"text": "x", "odd": 1}), None])
def test_a_spoilt_answer_is_asked_anew(cache, path, caplog, kept):
    cache.put("key", ANSWER)
    with sqlite3.connect(path) as connection:
        connection.execute("UPDATE answers SET answer = ?", (kept,))
    connection.close()
    assert cache.get("key") is None
    assert "cannot read an answer" in caplog.text


def test_a_locked_cache_is_not_in_the_way(fault_server, connect, cache, path, caplog, monkeypatch):
    monkeypatch.setattr(cache_module, "_BUSY_TIMEOUT", 0.05)
    cache.put("x", ANSWER)
    other = sqlite3.connect(path, isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    client = connect(cache=path)
    assert run_sync(client.complete(HELLO)).text == "Hello."
    assert "cannot write an answer" in caplog.text
    other.execute("COMMIT")
    other.close()
    for _ in range(2):
        assert run_sync(client.complete(HELLO)).text == "Hello."
    assert fault_server.count == 2


def test_a_cache_locked_from_the_start_is_not_in_the_way(
    fault_server, connect, path, caplog, monkeypatch
):
    monkeypatch.setattr(cache_module, "_BUSY_TIMEOUT", 0.05)
    path.parent.mkdir()
    other = sqlite3.connect(path, isolation_level=None)
    other.execute("BEGIN EXCLUSIVE")
    client = connect(cache=path)
    assert run_sync(client.complete(HELLO)).text == "Hello."
    other.execute("COMMIT")
    other.close()
    for _ in range(2):
        assert run_sync(client.complete(HELLO)).text == "Hello."
    assert fault_server.count == 2
