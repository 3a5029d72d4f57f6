"""Rating over HTTP: what people see, what is kept, and what nobody can do."""

import json
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from html import unescape

import pytest

from sotopia_gym.web.store import StudyStore
from sotopia_gym.web.study import Study
from tests.episodes.test_report import HOSTILE
from tests.web.people import EPISODES, QUALIFIED, Person, a_study, as_entered, only_ratings


def kept(store):
    """Rater to the ratings that are on disk, as fields of the form, in the order they came."""
    ratings = {}
    for each in sorted(store.submitted(), key=lambda r: r.submitted_at):
        ratings.setdefault(each.pseudonym, []).append(as_entered(each.scores))
    return ratings


def entered(*people):
    return {p.name: [only_ratings(values) for values in p.entered] for p in people}


def test_a_rater_is_led_from_consent_to_thanks(tmp_path):
    store, app = a_study(tmp_path, thanks="Code: 4711")
    person = Person(app)
    assert "Begin, or go on" in person.get("/").text
    assert person.get("/rate").url.path == "/start"
    for path in ("/instructions", "/examples"):
        assert person.get(path).url.path == "/start"
    page = person.get("/start").text
    refused = person.post("/consent", csrf=person.hidden(page, "csrf"))
    assert refused.status_code == 422
    assert "tick the box" in refused.text
    assert store.status().raters == ()
    person.join()
    assert "You see the goals and secrets of both" in person.get("/instructions").text
    assert "She wanted at least $100 and got $110." in person.get("/examples").text
    assert "Conversation 1 of 3" in person.get("/rate").text
    end = person.rate_all().get("/rate").text
    assert "That was all" in end
    assert "Code: 4711" in end
    assert kept(store) == entered(person)


def test_no_page_tells_who_played_or_how_it_was_scored(tmp_path):
    noted = EPISODES[0].model_copy(
        update={
            "agents": {"agent_0": "gpt-4o", "agent_1": "my-secret-model"},
            "events": tuple(
                replace(event, note="no valid action in 3 answers") for event in EPISODES[0].events
            ),
            "models": {"agent_0": ("gpt-4o-2024",)},
        }
    )
    _, app = a_study(tmp_path, [noted])
    person = Person(app).join()
    page = person.get("/rate").text
    told = ("gpt-4o", "my-secret-model", "no valid action", noted.episode_id, noted.task.task_id)
    assert not [word for word in (*told, "scripted", "outcome") if word in page]
    for agent, name in noted.task.names.items():
        assert name in unescape(page)
        assert noted.task.goal(agent) in unescape(page)


def test_what_is_missing_is_named_and_what_was_entered_stays(tmp_path):
    store, app = a_study(tmp_path)
    person = Person(app).join()
    values = person.form()
    broken = values | {
        "agent_0.goal.score": "11",
        "agent_1.secret.score": "-3.5",
        "agent_0.knowledge.reason": " \n ",
        "agent_1.goal.reason": "x" * 2001,
    }
    del broken["agent_1.relationship.score"]
    answer = person.client.post("/rate", data=broken)
    assert answer.status_code == 422
    assert answer.text.count('<li><a href="#') == 5
    assert "2001 characters" in answer.text
    assert values["agent_0.goal.reason"] in answer.text
    assert answer.text.count(" checked>") == 14 - 3
    assert kept(store) == {}
    person.client.post("/rate", data=values)
    assert kept(store) == {person.name: [only_ratings(values)]}


def test_reasons_are_kept_as_they_were_typed(tmp_path):
    store, app = a_study(tmp_path, EPISODES[:1])
    person = Person(app).join()
    reasons = ["<script>alert(1)</script>", "two\r\nlines", "\n  indented\t", "日本 😀 \u202e\x00"]
    values = person.form()
    fields = [f"agent_{n}.{name}.reason" for n in (0, 1) for name in ("goal", "secret")]
    values |= dict(zip(fields, reasons, strict=True))
    incomplete = {k: v for k, v in values.items() if k != "agent_0.knowledge.score"}
    shown = person.client.post("/rate", data=incomplete).text
    assert "<script" not in shown
    assert "&lt;script&gt;alert(1)" in shown
    person.client.post("/rate", data=values)
    (rating,) = kept(store)[person.name]
    assert [rating[field] for field in fields] == [r.replace("\r\n", "\n") for r in reasons]


def test_hostile_conversations_stay_text(tmp_path):
    _, app = a_study(tmp_path, [EPISODES[-1]])
    page = Person(app).join().get("/rate").text
    assert not [tag for tag in ("<script", "<img", "<svg", "<iframe", "<style") if tag in page]
    shown = unescape(page)
    plain = [text for text in HOSTILE if text.isascii() and text.isprintable()]
    assert len(plain) > 20
    assert all(text in shown for text in plain)
    assert "U+202E" in shown
    assert not set("\u2028\u202e\u200b\x00\x1b") & set(page)


def test_every_answer_forbids_what_pages_do_not_need(tmp_path):
    _, app = a_study(tmp_path)
    person = Person(app).join()
    for path in ("/", "/rate", "/nowhere", "/static/style.css", "/static/../study.py"):
        headers = person.get(path).headers
        policy = headers["content-security-policy"]
        assert "default-src 'none'" in policy
        assert "unsafe" not in policy
        assert headers["x-content-type-options"] == "nosniff"
        assert headers["referrer-policy"] == "no-referrer"
    for cookie in Person(app).get("/start").headers.get_list("set-cookie"):
        assert "HttpOnly" in cookie
        assert "SameSite=strict" in cookie
    assert person.get("/static/../study.py").status_code == 404


# --- What nobody can do


@pytest.mark.parametrize("token", ["", "wrong", "another"])
def test_a_form_that_is_not_from_the_session_changes_nothing(tmp_path, token):
    store, app = a_study(tmp_path)
    person, other = Person(app).join(), Person(app, 1).join()
    values = person.form()
    values["csrf"] = other.form()["csrf"] if token == "another" else token
    for path in ("/rate", "/consent", "/return"):
        assert person.client.post(path, data=values | {"agree": "yes"}).status_code == 403
    assert kept(store) == {}
    assert len(store.status().raters) == 2


def test_a_rater_can_neither_see_nor_change_what_another_rated(tmp_path):
    store, app = a_study(tmp_path, EPISODES[:1])
    first, second = Person(app).join(), Person(app, 1).join()
    secret = "Only the first rater wrote this."
    theirs = first.form() | {"agent_0.goal.reason": secret}
    first.client.post("/rate", data=theirs)
    before = kept(store)
    mine = second.form()
    forged = mine | {"assignment": theirs["assignment"]}
    assert second.client.post("/rate", data=forged).status_code == 404
    for number in ("1", "0", "", "' OR 1=1 --", "\x00"):
        answer = second.client.post("/rate", data=mine | {"assignment": number})
        assert answer.status_code == 404
    assert kept(store) == before
    for path in ("/", "/rate", "/instructions", "/examples", "/start"):
        page = second.get(path).text
        assert secret not in page
        assert first.name not in page
    assert secret not in first.get("/rate").text


def test_a_guessed_cookie_is_nobodys(tmp_path):
    store, app = a_study(tmp_path)
    person = Person(app).join()
    (name,) = [n for n in person.client.cookies if n.startswith("session")]
    with store.database.reading() as connection:
        (on_disk,) = connection.execute("SELECT token FROM sessions").fetchone()
    for value in ("x" * 32, person.name, on_disk, "", "' OR 1=1 --"):
        stranger = Person(app)
        stranger.client.cookies.set(name, value)
        assert stranger.get("/rate").url.path == "/start"


def test_a_rating_that_is_sent_twice_is_kept_once_and_as_it_was(tmp_path):
    store, app = a_study(tmp_path)
    person = Person(app).join()
    values = person.form()
    with ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(lambda _: person.client.post("/rate", data=values), range(8)))
    assert {answer.status_code for answer in answers} == {200}
    changed = values | {"agent_0.goal.reason": "Something else"}
    assert "Conversation 2 of" in person.client.post("/rate", data=changed).text
    assert kept(store) == {person.name: [only_ratings(values)]}


def test_what_makes_no_sense_is_refused_and_the_app_goes_on(tmp_path):
    store, app = a_study(tmp_path, EPISODES[:1])
    person = Person(app).join()
    form = {"Content-Type": "application/x-www-form-urlencoded"}

    def post(content, headers=form):
        return person.client.post("/rate", content=content, headers=headers).status_code

    assert post(b"a=" + b"x" * 1_000_001) == 413
    assert post(b"&".join(b"a%d=1" % n for n in range(300))) == 400
    assert post(b"csrf=%ff%fe") == 400
    assert post(b"\xff\x00") == 400
    assert post(b"") == 403
    assert post(json.dumps({"csrf": 1}), {"Content-Type": "application/json"}) == 415
    files = {"assignment": ("a.txt", b"x")}
    assert person.client.post("/rate", files=files).status_code == 415
    assert person.client.put("/rate").status_code == 405
    assert person.get("/rate?" + "x" * 50_000).status_code == 200
    values = person.form() | {"agent_0.goal.score": "9" * 5000, "agent_1.goal.score": "٣"}
    assert person.client.post("/rate", data=values).status_code == 422
    person.rate()
    assert kept(store) == entered(person)


def test_an_error_of_ours_is_a_page_and_not_a_traceback(tmp_path, monkeypatch):
    _, app = a_study(tmp_path)
    person = Person(app).join()
    monkeypatch.setattr(StudyStore, "next", lambda *_: 1 / 0)
    answer = person.get("/rate")
    assert answer.status_code == 500
    assert "Something went wrong here" in answer.text
    assert "ZeroDivision" not in answer.text
    assert "default-src 'none'" in answer.headers["content-security-policy"]


# --- Who comes in, and comes back


def test_beyond_this_machine_people_need_the_whole_link(tmp_path):
    store, app = a_study(tmp_path, restricted=True)
    access = store.database.setting("access", "")
    assert len(access) >= 32
    stranger = Person(app)
    for path in ("/", "/start", "/rate", "/?access=wrong", "/?access="):
        assert stranger.get(path).status_code == 403
    assert stranger.get("/static/style.css").status_code == 200
    assert stranger.post("/consent", agree="yes").status_code == 403
    guest = Person(app)
    assert "Begin, or go on" in guest.get(f"/?access={access}").text
    guest.join().rate()
    assert kept(store) == entered(guest)


def test_the_app_answers_under_its_own_names_only(tmp_path):
    _, app = a_study(tmp_path, hosts=("127.0.0.1",))
    person = Person(app)
    assert person.client.get("/", headers={"Host": "127.0.0.1:8000"}).status_code == 200
    assert person.client.get("/", headers={"Host": "evil.example:8000"}).status_code == 400


def test_a_rater_goes_on_with_another_browser(tmp_path):
    store, app = a_study(tmp_path)
    phone = Person(app).join()
    phone.rate()
    desk = Person(app)
    page = desk.get("/start").text
    csrf = desk.hidden(page, "csrf")
    assert desk.post("/return", csrf=csrf, code="x" * 32).status_code == 422
    assert "Conversation 2 of 3" in desk.post("/return", csrf=csrf, code=f" {phone.code} ").text
    assert phone.name in desk.get("/rate").text
    desk.name = phone.name
    desk.rate()
    assert kept(store) == {phone.name: entered(phone)[phone.name] + entered(desk)[phone.name]}


def test_coming_from_another_site_costs_nobody_the_session(tmp_path):
    """Browsers then send no strict cookies at first."""
    store, app = a_study(tmp_path)
    person = Person(app).join()
    cookies = dict(person.client.cookies)
    person.client.cookies.clear()
    person.get("/")
    person.get("/start")
    for name, value in cookies.items():
        if name.startswith("session"):
            assert name not in person.client.cookies
            person.client.cookies.set(name, value)
    person.rate()
    assert kept(store) == entered(person)


def test_raters_at_the_same_time_and_a_restart_lose_nothing(tmp_path):
    store, app = a_study(tmp_path, EPISODES, ratings=2)
    people = [Person(app, n).join() for n in range(4)]
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(lambda p: [p.rate(**_agreed()) for _ in range(3)], people))
    half_done = people[0].form(**_agreed())
    again, app = a_study(tmp_path, EPISODES, ratings=2)
    for person in people:
        cookies = person.client.cookies
        person.client = Person(app).client
        person.client.cookies = cookies
    people[0].entered.append(half_done)
    assert people[0].client.post("/rate", data=half_done).status_code == 200
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(lambda p: p.rate_all(**_agreed()), people))
    assert kept(store) == kept(again) == entered(*people)
    raters = {}
    for rating in again.submitted():
        raters.setdefault(rating.episode_id, []).append(rating.pseudonym)
    assert set(raters) == {episode.episode_id for episode in EPISODES}
    assert all(len(names) == len(set(names)) == 2 for names in raters.values())
    assert again.status().finished == 10


def _agreed():
    return {"agent_0.goal": 5, "agent_1.goal": 5}


# --- Who may rate


def test_whoever_rates_practice_well_qualifies(tmp_path):
    store, app = a_study(tmp_path, qualification=Study().qualification)
    good, bad = Person(app).join(), Person(app, 1).join()
    assert "Practice 1 of 1" in good.get("/rate").text
    assert "Conversation 1 of 3" in good.rate(**QUALIFIED)
    answer = bad.rate(**{**QUALIFIED, "agent_1.goal": 10})
    assert "too far from ours" in answer
    assert "too far from ours" in bad.get("/rate").text
    assert [rater.qualified for rater in store.status().raters] == [True, False]
    assert store.submitted() == []


def test_whoever_does_not_read_is_stopped_and_does_not_count(tmp_path):
    store, app = a_study(tmp_path, EPISODES[:6], attention_every=2, failed_checks=1, ratings=1)
    careless, careful = Person(app).join(), Person(app, 1).join()
    failed = 0
    while failed < 2:
        values = careless.form()
        if "check" in values:
            values["check"] = str((int(values["check"]) + 1) % 11)
            failed += 1
        answer = careless.client.post("/rate", data=values)
    assert "nothing more for you to rate" in answer.text
    careful.rate_all()
    assert len(careful.entered) == 6
    assert sum("check" in values for values in careful.entered) == 3
    ratings = store.submitted()
    assert {r.pseudonym for r in ratings if r.counts} == {careful.name}
    assert {r.attention for r in ratings if r.pseudonym == careful.name} == {None, True}
    states = {r.pseudonym: (r.dropped, r.checks, r.failed) for r in store.status().raters}
    assert states == {careless.name: (True, 2, 2), careful.name: (False, 3, 0)}


def test_an_attention_check_must_be_answered(tmp_path):
    _, app = a_study(tmp_path, attention_every=1)
    person = Person(app).join()
    values = person.form()
    assert values.pop("check").isdecimal()
    answer = person.client.post("/rate", data=values)
    assert answer.status_code == 422
    assert 'href="#check"' in answer.text
