"""Who is given what: two raters an episode, leases, relaunches; and what is made of the ratings."""

import json
import random
import stat
from concurrent.futures import ThreadPoolExecutor

import pytest
from typer.testing import CliRunner

from sotopia_gym import SocialEnv, play
from sotopia_gym.cli import app
from sotopia_gym.episodes.importers import import_episodes
from sotopia_gym.episodes.journal import Journal
from sotopia_gym.errors import ConfigError, UnknownIdError
from sotopia_gym.judges.human import HumanJudge
from sotopia_gym.web.database import Database
from sotopia_gym.web.form import read_rating
from sotopia_gym.web.quota import attention_check, needed
from sotopia_gym.web.store import Assignment, StudyStore
from sotopia_gym.web.study import Study, check_ratable, load_study, practice_episodes, ratable
from tests.web.people import EPISODES, ROLES, a_study, as_entered, only_ratings, some_scores

HOUR = 3600.0
AGREED = {"agent_0.goal": 5, "agent_1.goal": 5}


class Clock:
    time = 1_000_000.0

    def __call__(self):
        return self.time


@pytest.fixture
def clock():
    return Clock()


def a_store(path, episodes=EPISODES[:2], **rules):
    return a_study(path, episodes, **rules)[0]


def a_rating(seed=0, **chosen):
    values = some_scores(random.Random(seed), **chosen)
    rating, problems = read_rating(values, dict.fromkeys(ROLES, "X"), check=False)
    assert not problems
    return rating


def join(store, count):
    return [store.enroll()[0].rater for _ in range(count)]


def rate(store, rater, **chosen):
    """Rate what is next; the id of its episode."""
    given = store.next(rater)
    assert store.submit(rater, given.token, a_rating(**{**AGREED, **chosen}))
    return given.episode.episode_id


# --- How many


@pytest.mark.parametrize(
    ("goals", "wanted"),
    [
        ([], 2),
        ([(9, 0)], 2),
        ([(9, 0), (4, 5)], 2),
        ([(9, 0), (3, 0)], 3),
        ([(5, 2), (5, 8)], 3),
        ([(9, 0), (3, 0), (3, 0)], 3),
        ([(5, 5), (5, 5), (0, 10)], 2),
    ],
)
def test_an_episode_is_relaunched_where_two_goal_scores_are_far_apart(goals, wanted):
    given = [dict(zip(ROLES, each, strict=True)) for each in goals]
    assert needed(given, 2, 5) == wanted


def test_each_block_of_episodes_has_one_attention_check():
    for rater in ("r1", "r2", "r3"):
        checks = [attention_check(0, rater, index, 5) for index in range(500)]
        blocks = [checks[n : n + 5] for n in range(0, 500, 5)]
        assert {sum(c is not None for c in block) for block in blocks} == {1}
        assert {c for c in checks if c is not None} == set(range(11))
        assert len({tuple(c is None for c in block) for block in blocks}) == 5
    assert attention_check(0, "r1", 3, 0) is None


# --- Giving out


def test_an_episode_is_given_to_two_raters_and_no_more(tmp_path):
    store = a_store(tmp_path, EPISODES[:1])
    first, second, third = join(store, 3)
    assert store.next(first).episode == store.next(second).episode
    assert store.next(third) == "waiting"
    rate(store, first)
    assert store.next(first) == "done"
    assert store.next(third) == "waiting"
    rate(store, second)
    assert store.next(third) == "done"


def test_asking_again_gives_the_same(tmp_path):
    store = a_store(tmp_path)
    (rater,) = join(store, 1)
    assert len({store.next(rater).token for _ in range(5)}) == 1
    assert store.status().leased == 1


def test_what_somebody_gave_up_is_given_to_another(tmp_path, clock):
    store = a_store(tmp_path, EPISODES[:1], now=clock, ratings=1, lease_minutes=60)
    gone, other = join(store, 2)
    late = store.next(gone)
    clock.time += HOUR - 1
    assert store.next(other) == "waiting"
    assert store.next(gone) == late  # whoever looks at it again has an hour from now
    clock.time += HOUR - 1
    assert store.next(other) == "waiting"
    clock.time += 2
    assert isinstance(store.next(other), Assignment)
    assert store.next(gone) == "waiting"


def test_a_rating_that_comes_too_late_is_kept_and_does_not_count_twice(tmp_path, clock):
    store = a_store(tmp_path, EPISODES[:1], now=clock, ratings=1)
    slow, quick = join(store, 2)
    late = store.next(slow)
    clock.time += 3 * HOUR
    rate(store, quick)
    assert store.submit(slow, late.token, a_rating(1))
    assert [r.counts for r in store.submitted()] == [True, False]
    assert (store.status().ratings, store.status().missing) == (1, 0)


def test_whoever_returns_before_another_came_goes_on(tmp_path, clock):
    store = a_store(tmp_path, EPISODES[:1], now=clock, ratings=1)
    (rater,) = join(store, 1)
    before = store.next(rater)
    clock.time += 3 * HOUR
    assert store.next(rater).token == before.token


def test_raters_who_disagree_cause_one_more_rating(tmp_path):
    store = a_store(tmp_path, EPISODES[:1])
    first, second, third, fourth = join(store, 4)
    rate(store, first, **{"agent_0.goal": 9})
    rate(store, second, **{"agent_0.goal": 3})
    now = store.status()
    assert (now.relaunched, now.missing, now.finished) == (1, 1, 0)
    assert store.next(first) == store.next(second) == "done"
    assert isinstance(store.next(third), Assignment)
    assert store.next(fourth) == "waiting"
    rate(store, third, **{"agent_0.goal": 0})
    assert store.next(fourth) == "done"
    assert (store.status().finished, store.status().ratings) == (1, 3)


def test_episodes_are_finished_one_after_the_other(tmp_path):
    store = a_store(tmp_path, EPISODES)
    one, two = join(store, 2)
    started = {rate(store, one) for _ in range(4)}
    assert {rate(store, two) for _ in range(4)} == started


def test_raters_see_the_episodes_in_orders_of_their_own(tmp_path):
    store = a_store(tmp_path, EPISODES, ratings=9)
    orders = set()
    for rater in join(store, 3):
        orders.add(tuple(rate(store, rater) for _ in EPISODES))
        store.forget(store.status().raters[0].pseudonym)
    assert len(orders) == 3


def test_a_rater_may_have_a_limit(tmp_path):
    store = a_store(tmp_path, EPISODES, per_rater=2)
    (rater,) = join(store, 1)
    assert store.next(rater).total == 2
    rate(store, rater)
    rate(store, rater)
    assert store.next(rater) == "done"


def test_many_at_once_get_no_episode_too_often(tmp_path):
    store = a_store(tmp_path, EPISODES[:5])
    raters = join(store, 8)

    def work(rater):
        while isinstance(given := store.next(rater), Assignment):
            store.submit(rater, given.token, a_rating(rater, **AGREED))

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(work, raters))
    ratings = [(r.episode_id, r.pseudonym) for r in store.submitted()]
    assert len(ratings) == len(set(ratings)) == 10
    assert (store.status().finished, store.status().missing) == (5, 0)


# --- Taking in


def test_a_rating_needs_an_assignment_of_ones_own(tmp_path):
    store = a_store(tmp_path)
    one, other = join(store, 2)
    given = store.next(one)
    for rater, token in ((other, given.token), (one, "x"), (99, given.token)):
        with pytest.raises(UnknownIdError, match="no episode was given to you"):
            store.submit(rater, token, a_rating())
    assert store.submit(one, given.token, a_rating(1))
    assert not store.submit(one, given.token, a_rating(2))
    (kept,) = store.submitted()
    assert kept.scores == a_rating(1).scores


def test_a_rater_is_forgotten_with_everything(tmp_path):
    store = a_store(tmp_path, EPISODES[:1], ratings=1)
    rater, session, code = store.enroll()
    rate(store, rater.rater)
    assert store.forget(rater.pseudonym) == 1
    assert store.submitted() == []
    assert store.rater(session) is None
    assert store.come_back(code) is None
    assert isinstance(store.next(join(store, 1)[0]), Assignment)
    with store.database.reading() as connection:
        assert connection.execute("SELECT COUNT(*) FROM scores").fetchone()[0] == 0
    with pytest.raises(UnknownIdError, match="no rater"):
        store.forget(rater.pseudonym)


def test_no_secret_is_in_the_file_and_only_its_owner_reads_it(tmp_path):
    store = a_store(tmp_path)
    _, session, code = store.enroll()
    again = store.come_back(code)
    written = b"".join(p.read_bytes() for p in tmp_path.iterdir())
    assert not [each for each in (session, code, again) if each.encode() in written]
    assert stat.S_IMODE(store.database.path.stat().st_mode) == 0o600


def test_a_study_goes_on_with_more_episodes(tmp_path):
    store = a_store(tmp_path, EPISODES[:1], ratings=1)
    (rater,) = join(store, 1)
    first = rate(store, rater)
    store = a_store(tmp_path, EPISODES[:2], ratings=1)
    assert store.status().episodes == 2
    assert rate(store, rater) != first


def test_another_file_is_refused_and_left_alone(tmp_path):
    path = tmp_path / "study.db"
    Database(path, "cake", "CREATE TABLE cakes (cake)")
    with pytest.raises(ConfigError, match="no study"):
        StudyStore(path)
    path.write_text("something else entirely, and long enough to be no header " * 40)
    with pytest.raises(ConfigError, match="cannot be used"):
        StudyStore(path)
    with pytest.raises(ConfigError, match="serve it first"):
        StudyStore(tmp_path / "new.db")


# --- What it is made into


def rated_study(tmp_path):
    """Three raters; one episode is relaunched, and the hostile one is rated with hostile words."""
    hostile = ["</script><script>alert(1)", "two\nlines, „quoted“", "=1+1", "\u2028\x00 \u202e😀"]
    store = a_store(tmp_path, [EPISODES[0], EPISODES[-1]])
    entered = {}
    for index, rater in enumerate(join(store, 3)):
        while isinstance(given := store.next(rater), Assignment):
            goal = {"agent_0.goal": 0 if index == 0 and given.done == 0 else 9, "agent_1.goal": 5}
            values = some_scores(random.Random(index), **goal)
            values |= {"agent_1.secret.reason": hostile[index], "agent_0.goal.reason": hostile[3]}
            rating, _ = read_rating(values, dict.fromkeys(ROLES, "X"), check=False)
            store.submit(rater, given.token, rating)
            pseudonym = store.status().raters[index].pseudonym
            entered[given.episode.episode_id, pseudonym] = only_ratings(values)
    return store, entered


def annotate(*arguments):
    command = ["annotate", *map(str, arguments)]
    return CliRunner().invoke(app, command, env={"COLUMNS": "200"}, catch_exceptions=False)


def read_back(episodes):
    return {
        (episode.episode_id, judgement.judge.removeprefix("human/")): as_entered(judgement.scores)
        for episode in episodes
        for judgement in episode.judgements
        if judgement.judge.startswith("human/")
    }


def test_the_export_reads_back_to_exactly_what_was_entered(tmp_path):
    store, entered = rated_study(tmp_path)
    assert len(entered) == 5
    out = tmp_path / "ratings.jsonl"
    done = annotate("export", store.database.path, "--out", out)
    assert done.stdout.startswith("5 ratings")
    imported = import_episodes([out])
    assert imported.records == {"human_ratings": 5}
    assert [note for note in imported.notes if note.lost] == []
    assert read_back(imported.episodes) == entered
    judged = HumanJudge(imported.episodes).judge(EPISODES[0])
    raters = [rater for name, rater in entered if name == EPISODES[0].episode_id]
    assert judged.metrics["raters"] == len(raters)
    first = json.loads(out.read_text().splitlines()[0])
    assert first["names"] == list(EPISODES[0].task.names.values())
    assert first["counts"] is True
    assert "scripted" not in out.read_text()


def test_the_ratings_become_judgements_of_the_episodes(tmp_path):
    store, entered = rated_study(tmp_path)
    out = tmp_path / "rated.jsonl"
    annotate("export", store.database.path, "--format", "episodes", "--out", out)
    episodes = list(Journal(out))
    assert read_back(episodes) == entered
    assert episodes[0].judgements[0] == EPISODES[0].judgements[0]
    assert episodes[0].model_copy(update={"judgements": EPISODES[0].judgements}) == EPISODES[0]
    assert HumanJudge(episodes).judge(EPISODES[0]).scored


def test_what_does_not_count_is_exported_when_asked_for(tmp_path, clock):
    store = a_store(tmp_path, EPISODES[:1], now=clock, ratings=1)
    slow, quick = join(store, 2)
    late = store.next(slow)
    clock.time += 3 * HOUR
    rate(store, quick)
    store.submit(slow, late.token, a_rating(1))
    for options, counts in (([], [True]), (["--all"], [True, False])):
        out = tmp_path / "out.jsonl"
        annotate("export", store.database.path, "--out", out, *options)
        lines = [json.loads(line) for line in out.read_text().splitlines()]
        assert [line["counts"] for line in lines] == counts
        assert lines[-1]["seconds"] == (0 if not options else 3 * HOUR)


def test_status_and_forget_on_the_command_line(tmp_path):
    store, _ = rated_study(tmp_path)
    shown = annotate("status", store.database.path).stdout
    assert shown.startswith("2 of 2 episodes finished, 1 relaunched; 5 ratings, 0 missing")
    name = store.status().raters[0].pseudonym
    assert name in shown
    done = annotate("forget", store.database.path, name)
    assert "2 ratings are deleted" in done.stdout
    assert (store.status().ratings, store.status().missing) == (3, 1)


# --- What a study is


def test_a_study_is_read_from_a_file(tmp_path):
    Journal(tmp_path / "mine.jsonl").append(EPISODES[0])
    path = tmp_path / "study.toml"
    path.write_text(
        f"""
        title = "Mine"
        organiser = "Ada <ada@example.org>"
        practice = "mine.jsonl"
        examples = ["{EPISODES[0].episode_id}"]

        [[qualification]]
        episode = "{EPISODES[0].episode_id}"
        [qualification.accepted.agent_1]
        goal = [8, 10]
        """
    )
    study = load_study(path)
    assert study.title == "Mine"
    assert list(practice_episodes(study)) == [EPISODES[0].episode_id]
    (qualification,) = study.qualification
    assert qualification.passed(a_rating(**{"agent_1.goal": 8}).scores)
    assert not qualification.passed(a_rating(**{"agent_1.goal": 7}).scores)


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("ratings = 0", "ratings"),
        ("rating = 2", "Known fields: title"),
        ("ratings = ", "is not TOML"),
        ('[[qualification]]\nepisode = "x"\naccepted = {agent_0 = {gaol = [0, 1]}}', "'goal'"),
        ('[[qualification]]\nepisode = "x"\naccepted = {agent_0 = {goal = [2, 1]}}', "above"),
    ],
)
def test_a_mistake_in_the_file_is_named(tmp_path, text, told):
    path = tmp_path / "study.toml"
    path.write_text(text)
    with pytest.raises(ConfigError, match=told):
        load_study(path)


def test_practice_that_cannot_be_used_is_refused(tmp_path):
    path = tmp_path / "mine.jsonl"
    Journal(path).append(EPISODES[0].model_copy(update={"judgements": ()}))
    unscored = Study(practice=path, examples=(EPISODES[0].episode_id,), qualification=())
    for study, told in (
        (Study(practice=path), "no practice episode 'example-bicycle'"),
        (Study(practice=tmp_path / "none"), "no practice file"),
        (unscored, "has no scores to show"),
    ):
        with pytest.raises(ConfigError, match=told):
            practice_episodes(study)
    (shipped,) = Study().qualification
    odd = shipped.model_copy(update={"accepted": {"agent_7": {"goal": (0, 1)}}})
    with pytest.raises(ConfigError, match="no agent 'agent_7'"):
        practice_episodes(Study(qualification=(odd,)))


def test_only_finished_conversations_of_two_are_rated():
    failed = EPISODES[1].model_copy(update={"ending": "failed", "error": "x"})
    assert ratable([EPISODES[0], failed, EPISODES[0]]) == [EPISODES[0]]
    with pytest.raises(ConfigError, match="no episodes to rate"):
        ratable([failed])
    env = SocialEnv("plan-3", judge="none", max_turns=3)
    three = play(env, dict.fromkeys(env.possible_agents, "scripted/silent"), seed=0)
    with pytest.raises(ConfigError, match="3 characters"):
        check_ratable(three)


def test_the_practice_that_comes_with_us_is_sound():
    study = Study()
    practice = practice_episodes(study)
    assert len(practice) == 3
    for name in study.examples:
        (judgement,) = practice[name].judgements
        assert {len(scores) for scores in judgement.scores.values()} == {7}
        assert all(given.reasoning for s in judgement.scores.values() for given in s.values())
