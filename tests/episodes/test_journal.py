"""Episodes on disk."""

import pytest

import sotopia_gym
from sotopia_gym import Episode
from sotopia_gym.episodes.journal import Journal
from sotopia_gym.errors import JournalError


@pytest.fixture(scope="module")
def episodes():
    env = sotopia_gym.make("sotopia-v0")
    players = {"agent_0": "scripted/fair", "agent_1": "scripted/random"}
    return [sotopia_gym.play(env, players, seed=seed) for seed in range(4)]


def test_what_is_written_is_read_back(tmp_path, episodes):
    journal = Journal(tmp_path / "new" / "folder" / "run.jsonl")
    assert list(journal) == []
    for episode in episodes:
        journal.append(episode)
    assert list(Journal(journal.path)) == episodes


def test_a_torn_last_line_is_dropped_wherever_the_writer_was_killed(tmp_path, episodes):
    path = tmp_path / "run.jsonl"
    for episode in episodes[:2]:
        Journal(path).append(episode)
    whole = path.read_bytes()
    first = whole.index(b"\n") + 1
    for cut in (first + 1, first + 500, len(whole) - 1):
        path.write_bytes(whole[:cut])
        assert list(Journal(path)) == episodes[:1]
        Journal(path).append(episodes[2])
        assert list(Journal(path)) == [episodes[0], episodes[2]]
    path.write_bytes(whole[: first - 1])
    Journal(path).append(episodes[3])
    assert list(Journal(path)) == [episodes[3]]


def test_a_line_that_is_no_episode_is_an_error_that_names_it(tmp_path, episodes):
    path = tmp_path / "run.jsonl"
    Journal(path).append(episodes[0])
    with path.open("a") as file:
        file.write('{"task": "unknown"}\n')
    with pytest.raises(JournalError, match="line 2"):
        list(Journal(path))


def test_an_episode_can_be_judged_again_from_its_file(episodes):
    from sotopia_gym.judges import OutcomeJudge

    stored = Episode.model_validate_json(episodes[0].model_dump_json())
    assert OutcomeJudge().judge(stored) == episodes[0].judgement


def test_the_id_of_a_copy_is_that_of_what_it_holds(episodes):
    episode = episodes[0]
    before = episode.episode_id
    copied = episode.model_copy(update={"events": episode.events[:1]})
    assert copied.episode_id != before
    assert copied.episode_id == Episode.model_validate_json(copied.model_dump_json()).episode_id
    assert episode.model_copy().episode_id == episode.episode_id == before
