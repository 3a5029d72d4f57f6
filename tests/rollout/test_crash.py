"""A rollout that is killed again and again ends with the journal of one that was never killed."""

import json
import random
import signal
import subprocess
import sys
import textwrap
import time

import pytest

from sotopia_gym.episodes.journal import Journal
from sotopia_gym.rollout import Rollout

AGENT, PARTNERS = "scripted/random", ["scripted/fair", "scripted/firm", "scripted/generous"]
RUN = f"""
    import sys
    from sotopia_gym.rollout import Rollout
    for _ in Rollout("starter", {AGENT!r}, {PARTNERS!r}, judge="outcome", repetitions=2,
                     journal=sys.argv[1], concurrency=8):
        pass
"""


def lines(path):
    """The journal's lines without timings, sorted."""
    kept = []
    for line in path.read_text().splitlines():
        episode = json.loads(line)
        episode.pop("seconds", None)
        kept.append(json.dumps(episode, sort_keys=True))
    return sorted(kept)


def killed(path, times, rng):
    """Start the run until it ends by itself, killing it at ``times`` random moments."""
    kills = 0
    while True:
        process = subprocess.Popen([sys.executable, "-c", textwrap.dedent(RUN), str(path)])
        if kills < times:
            before = path.stat().st_size if path.exists() else 0
            # Wait until it plays, then a random moment; the import alone would be no moment.
            while process.poll() is None and (not path.exists() or path.stat().st_size == before):
                time.sleep(0.005)
            time.sleep(rng.uniform(0, 0.1))
            if process.poll() is None:
                process.send_signal(signal.SIGKILL)
                kills += 1
        if process.wait() == 0:
            return kills


@pytest.mark.skipif(sys.platform == "win32", reason="there is no SIGKILL")
@pytest.mark.parametrize("times", [3, pytest.param(50, marks=pytest.mark.slow)])
def test_a_killed_run_loses_nothing_and_repeats_nothing(tmp_path, times):
    whole = tmp_path / "whole.jsonl"
    list(Rollout("starter", AGENT, PARTNERS, judge="outcome", repetitions=2, journal=whole))
    path = tmp_path / "killed.jsonl"
    assert killed(path, times, random.Random(times)) == times
    assert lines(path) == lines(whole)
    keys = [episode.key for episode in Journal(path)]
    assert len(keys) == len(set(keys)) == 480
