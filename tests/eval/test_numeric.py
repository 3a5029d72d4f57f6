"""The optimum that learners on numbers are compared with is one."""

import itertools
import json
import sys
from functools import cache

import pytest

from eval import numeric
from sotopia_gym import NumericSoloEnv

SOME = (0, 4, 8, 12, numeric.MOST, numeric.ACCEPT, numeric.LEAVE)


@pytest.fixture
def short(monkeypatch):
    """Conversations so short that all ways to play them can be tried."""
    make = cache(lambda partner: NumericSoloEnv(partner=partner, split="heldout", max_turns=6))
    monkeypatch.setattr(numeric, "_solo", make)


def best_of_all(game: numeric.Game) -> float:
    """The best goal score of all ways to play three turns with some of the actions."""
    best, over_after = 0.0, set()
    for plan in itertools.product(SOME, repeat=3):
        if any(plan[:length] in over_after for length in range(1, 3)):
            continue
        env, _ = game.start()
        for length, action in enumerate(plan, start=1):
            _, reward, over, _, _ = env.step(action)
            if over:
                over_after.add(plan[:length])
                best = max(best, float(reward))
                break
    return best


@pytest.mark.parametrize("partner", ["scripted/fair", "scripted/stubborn"])
@pytest.mark.usefixtures("short")
def test_no_way_to_play_is_better_than_the_optimum_and_one_reaches_it(partner):
    games = [game for game in numeric.games(3) if game.partner == partner]
    assert len(games) == 6
    for game in games:
        optimum, reached = numeric.optimum(game)
        assert optimum == reached == best_of_all(game)


def test_the_share_of_the_optimum_is_that_of_the_means():
    games = [game for game in numeric.games(2) if game.partner == "scripted/fair"]
    others = [game for game in numeric.games(2) if game.partner == "scripted/expert"]
    table = numeric.shares(games + others, [5.0] * 4 + [2.5] * 4, [7.5, 7.5, 5.0, 5.0] + [10.0] * 4)
    assert table["train"]["share"] == pytest.approx(20 / 25)
    assert table["train"]["share_above_no_deal"] == pytest.approx(10 / 15, abs=1e-3)
    assert table["train"]["share_interval"] == [pytest.approx(2 / 3, abs=1e-3), 1.0]
    assert table["heldout"]["share_above_no_deal"] == 0


@pytest.mark.slow
def test_it_trains_and_writes_what_it_found(tmp_path, monkeypatch):
    pytest.importorskip("stable_baselines3")
    out = tmp_path / "numeric.json"
    arguments = f"eval.numeric --steps 2048 --tasks 2 --self-play --out {out}"
    monkeypatch.setattr(sys, "argv", arguments.split())
    numeric.main()
    found = json.loads(out.read_text())
    assert found["optimum"] == {"games": 20, "reached": 20}
    assert set(found["players"]) == {"ppo", "patient", "expert", "random", "self-play"}
    assert found["self-play"]["steps"] == 2048
    for table in found["players"].values():
        assert 0 <= table["train"]["share"] <= 1
