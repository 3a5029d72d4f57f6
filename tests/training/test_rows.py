"""Rows to train on: every id that was produced once, after the same ids, in few tokens."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sotopia_gym.episodes.schema import TurnTokens
from sotopia_gym.training.rows import IGNORED, Row, by_turn, packed
from tests.tiny_model import save_tiny_model


def turn(number, shared, prompt, sampled):
    return TurnTokens(turn=number, shared=shared, prompt=tuple(prompt), sampled=tuple(sampled))


@st.composite
def conversations(draw):
    """Turns of an agent; each sampled id occurs once, so that it can be found again."""
    made, read, fresh = [], 0, 1000
    for number in range(1, draw(st.integers(1, 8)) + 1):
        # Mostly the whole turn before is continued; else part of it was dropped.
        shared = read if draw(st.booleans()) else draw(st.integers(0, read))
        prompt = draw(st.lists(st.integers(0, 99), min_size=1, max_size=4))
        length = draw(st.integers(1, 4))
        made.append(turn(2 * number - 1, shared, prompt, range(fresh, fresh + length)))
        fresh += length
        read = shared + len(prompt) + length
    return made


def trained(rows):
    """Each id that is trained on, with all that is read before it."""
    return [
        (row.ids[:place], row.ids[place])
        for row in rows
        for place, own in enumerate(row.mask)
        if own
    ]


@given(conversations(), st.sets(st.integers(1, 16)))
def test_every_id_produced_is_trained_on_once_after_the_same_ids(turns, skip):
    produced = [id_ for each in turns if each.turn not in skip for id_ in each.sampled]
    one, other = (list(layout(turns, skip=skip)) for layout in (by_turn, packed))
    assert [id_ for _, id_ in trained(one)] == produced
    assert trained(one) == trained(other)
    assert len(one) == sum(each.turn not in skip for each in turns)
    assert len(other) <= len(one)
    tokens, tokens_packed = (sum(len(row.ids) for row in rows) for rows in (one, other))
    assert tokens_packed <= tokens or skip
    assert all(row.trained for row in (*one, *other))


def test_a_turn_is_a_row_and_an_episode_is_a_row():
    turns = [turn(1, 0, (1, 2), (3, 4)), turn(3, 4, (5,), (6,)), turn(5, 6, (7, 8), (9,))]
    assert [row.ids for row in by_turn(turns)] == [
        (1, 2, 3, 4),
        (1, 2, 3, 4, 5, 6),
        (1, 2, 3, 4, 5, 6, 7, 8, 9),
    ]
    assert [row.labels for row in by_turn(turns)][1] == [IGNORED] * 5 + [6]
    (row,) = packed(turns)
    assert row.ids == (1, 2, 3, 4, 5, 6, 7, 8, 9)
    assert row.labels == [IGNORED, IGNORED, 3, 4, IGNORED, 6, IGNORED, IGNORED, 9]
    assert row.trained == 4


def test_where_the_oldest_turns_were_dropped_a_new_row_begins():
    turns = [
        turn(1, 0, (1, 2), (3, 4)),
        turn(3, 4, (5,), (6,)),
        turn(5, 1, (5, 6, 7), (8,)),  # 2, 3 and 4 are gone
        turn(7, 5, (9,), (10,)),
    ]
    assert list(packed(turns)) == [
        Row((1, 2, 3, 4, 5, 6), (False, False, True, True, False, True)),
        Row((1, 5, 6, 7, 8, 9, 10), (False, False, False, False, True, False, True)),
    ]


def test_turns_to_skip_are_read_but_not_trained_on():
    turns = [turn(1, 0, (1,), (2,)), turn(3, 2, (3,), (4,)), turn(5, 0, (5,), (6,))]
    assert list(packed(turns, skip={1})) == [
        Row((1, 2, 3, 4), (False, False, False, True)),
        Row((5, 6), (False, True)),
    ]
    assert list(packed(turns, skip={5})) == [Row((1, 2, 3, 4), (False, True, False, True))]
    assert list(by_turn(turns, skip={1, 5})) == [Row((1, 2, 3, 4), (False, False, False, True))]
    assert list(packed(turns, skip={1, 3, 5})) == list(packed([])) == []


# --- the gradient ------------------------------------------------------------------------------


def gradient(model, rows):
    """The summed negative log-likelihood of what is trained on, and its gradient."""
    import torch

    model.zero_grad()
    total = 0.0
    for row in rows:
        logits = model(torch.tensor([row.ids])).logits[0, :-1]
        labels = torch.tensor(row.labels[1:])
        loss = torch.nn.functional.cross_entropy(
            logits, labels, ignore_index=IGNORED, reduction="sum"
        )
        loss.backward()
        total += loss.item()
    return total, {name: weight.grad.clone() for name, weight in model.named_parameters()}


@pytest.mark.parametrize("dropped", [False, True])
def test_both_layouts_have_one_gradient(tmp_path, dropped):
    torch = pytest.importorskip("torch", reason="the extra 'train' is not installed")
    transformers = pytest.importorskip("transformers", reason="the extra 'train' is not installed")
    model = transformers.AutoModelForCausalLM.from_pretrained(save_tiny_model(tmp_path))
    made, read = [], 0
    for number in range(10):
        shared = 40 if dropped and number == 6 else read
        prompt = [(3 * number + i) % 250 for i in range(60 if number == 0 else 20)]
        made.append(turn(number, shared, prompt, [(5 * number + i) % 250 for i in range(12)]))
        read = shared + len(prompt) + 12
    one, other = (list(layout(made, skip={2})) for layout in (by_turn, packed))
    loss, grads = gradient(model, one)
    loss_packed, grads_packed = gradient(model, other)
    assert loss_packed == pytest.approx(loss, rel=1e-5)
    for name, grad in grads.items():
        torch.testing.assert_close(grads_packed[name], grad, rtol=1e-3, atol=1e-3)
    tokens, tokens_packed = (sum(len(row.ids) for row in rows) for rows in (one, other))
    assert len(other) == 1 + dropped
    assert tokens_packed < tokens / (2.5 if dropped else 3)
