"""The command that measures readers on negotiations of people: formats, metrics, errors."""

import json

import pytest

from eval import outcome_reading
from eval.outcome_reading import RecordError, evaluate, format_of, load, main
from sotopia_gym.outcomes.base import OutcomeReader
from sotopia_gym.outcomes.rules import RulesReader
from sotopia_gym.tasks.families import Outcome

HIDDEN = 99.25
"""A number that is clicked or private, never typed."""


def bargain(key, *messages, price=None):
    """A record of CraigslistBargain from alternating messages, the buyer's first."""
    events = [
        {"agent": n % 2, "role": ("buyer", "seller")[n % 2], "action": "message", "data": text}
        for n, text in enumerate(messages)
    ]
    last = {"agent": 0, "role": "buyer", "action": "offer", "data": {"price": HIDDEN}}
    return {
        "id": key,
        "list_price": 100,
        "targets": {"buyer": HIDDEN, "seller": HIDDEN},
        "events": [*events, last, last | {"action": "accept", "data": None}],
        "outcome": {"deal": price is not None, "price": price},
    }


def split(key, *messages, agreed=True):
    """A record of CaSiNo; if agreed, the first gets all food, and the second the rest."""
    turns = [
        {"agent": f"mturk_agent_{1 + n % 2}", "text": text, "task_data": {}}
        for n, text in enumerate(messages)
    ]
    clicked = {"agent": "mturk_agent_1", "text": "Submit-Deal", "task_data": {"x": HIDDEN}}
    prefs = {"High": "Food", "Medium": "Water", "Low": "Firewood"}
    one, other = {"Food": 3, "Water": 0, "Firewood": 0}, {"Food": 0, "Water": 3, "Firewood": 3}
    return {
        "id": key,
        "turns": [*turns, clicked, clicked | {"text": "Accept-Deal"}],
        "prefs": {"mturk_agent_1": prefs, "mturk_agent_2": prefs},
        "outcome": {
            "agreed": agreed,
            "split": {"mturk_agent_1": one, "mturk_agent_2": other} if agreed else None,
        },
    }


def deal(key, *turns, you=None, them=None):
    """A record of Deal or No Deal."""
    return {
        "id": key,
        "items": ["book", "hat", "ball"],
        "counts": [1, 2, 3],
        "you_values": [6, 0, 2],
        "turns": [*turns, "YOU: <selection>"],
        "outcome": {"agreed": you is not None, "you": you, "them": them},
    }


def appeal(key, *messages, donated=0.0):
    """A record of PersuasionForGood, the persuader's message first."""
    roles = ("persuader", "persuadee")
    turns = [{"role": roles[n % 2], "text": text} for n, text in enumerate(messages)]
    return {"id": key, "turns": turns, "outcome": {"persuadee_donation": donated}}


BARGAINS = [
    bargain("right", "80?", "Deal!", price=80.0),
    bargain("right to the cent", "62.50?", "Agreed", price=62.499999),
    bargain("wrong", "80?", "Deal!", price=HIDDEN),
    bargain("none, read as some", "80?", "Deal!"),
    bargain("none, rightly", "50?", "No deal, sorry."),
    bargain("missed", "hello", "hi", price=50.0),
    bargain("silent"),
]
SPLITS = [split(1, "I take all the food and you get the rest", "Deal!")]
DEALS = [
    deal(
        "a",
        "YOU: i take the book and you get the rest",
        "THEM: deal",
        you=[1, 0, 0],
        them=[0, 2, 3],
    ),
    deal(
        "b",
        "THEM: i take the book and you get the rest",
        "YOU: deal",
        you=[0, 2, 3],
        them=[1, 0, 0],
    ),
]
APPEALS = [
    appeal("pledged", "How much would you donate?", "I will donate $1", donated=0.5),
    appeal("declined", "Would you donate?", "No thank you."),
    appeal("kept", "How much would you donate?", "I will donate 50 cents", donated=0.5),
    appeal("vague", "Would you donate?", "Maybe."),
    appeal("misread", "How much would you donate?", "I will donate $2"),
]
EXAMPLES = {
    "craigslist": BARGAINS,
    "casino": SPLITS,
    "deal_or_no_deal": DEALS,
    "persuasion": APPEALS,
}


@pytest.fixture
def written(tmp_path):
    """Writes records to a file."""

    def write(records, name="some.jsonl"):
        file = tmp_path / name
        lines = (r if isinstance(r, str) else json.dumps(r) for r in records)
        file.write_text("\n".join(lines) + "\n", encoding="utf-8")
        return file

    return write


class Saying(OutcomeReader):
    """Says one thing about everything, and remembers what it was shown."""

    name = "saying"
    families = frozenset(("price", "division", "donation"))

    def __init__(self, status="unread", **terms):
        self.status, self.terms, self.shown = status, terms, []

    def read(self, spec, said):
        self.shown.append((spec, said))
        return Outcome(family=spec.family, status=self.status, terms=self.terms)

    async def aread(self, spec, said):
        return self.read(spec, said)


class TestMetrics:
    def test_of_prices(self, written):
        result = evaluate(written(BARGAINS), "craigslist", RulesReader(), errors=9)
        assert result["n"] == 7
        assert result["verdicts"] == 5
        assert result["coverage"] == pytest.approx(5 / 7, abs=1e-4)
        assert result["right"] == 3
        assert result["precision"] == 0.6
        low, high = result["precision, 95 %"]
        assert 0 <= low < 0.6 < high <= 1
        assert result["confusion"] == {
            "agreed": {"right terms": 2, "wrong terms": 1, "no agreement": 0, "unread": 1},
            "none": {"right terms": 0, "wrong terms": 1, "no agreement": 1, "unread": 1},
        }
        assert result["errors"] == [
            {"id": "wrong", "truth": {"price": HIDDEN}, "read": {"price": 80.0}},
            {"id": "none, read as some", "truth": "none", "read": {"price": 80.0}},
        ]

    def test_no_agreement_is_wrong_where_there_was_one(self, written):
        file = written([bargain("a", "80?", price=80.0), bargain("b", "80?")])
        result = evaluate(file, "craigslist", Saying("no-agreement"))
        assert (result["coverage"], result["precision"]) == (1.0, 0.5)

    def test_without_a_verdict_there_is_no_precision(self, written):
        result = evaluate(written(BARGAINS), "craigslist", Saying())
        assert (result["coverage"], result["precision"]) == (0.0, None)
        assert result["precision, 95 %"] is None

    def test_of_shares(self, written):
        result = evaluate(written(SPLITS), "casino", RulesReader())
        assert (result["coverage"], result["precision"]) == (1.0, 1.0)
        half_right = {"mturk_agent_1": [0, 3, 0], "mturk_agent_2": [3, 0, 0]}
        wrong = evaluate(written(SPLITS), "casino", Saying("agreement", shares=half_right))
        assert wrong["precision"] == 0.0

    def test_both_records_of_one_conversation_are_one_cluster(self, written):
        result = evaluate(written(DEALS), "deal_or_no_deal", RulesReader())
        assert (result["n"], result["precision"]) == (2, 1.0)
        assert result["precision, 95 %"] is None
        one, other = load(written(DEALS), "deal_or_no_deal")
        assert one.cluster == other.cluster

    def test_of_donations_by_labels_and_by_what_was_given(self, written):
        labels = {"pledged": 1, "declined": "none", "vague": "unclear", "misread": "unclear"}
        result = evaluate(written(APPEALS), "persuasion", RulesReader(), labels=labels)
        assert (result["n"], result["coverage"]) == (5, 0.8)
        assert (result["labelled"], result["labelled verdicts"]) == (4, 3)
        assert result["labelled coverage"] == 0.75
        assert result["precision"] == pytest.approx(2 / 3, abs=1e-4)
        assert result["confusion"]["unclear"]["wrong terms"] == 1
        assert result["same as donated afterwards"] == {"verdicts": 4, "same": 2, "share": 0.5}

    def test_unlabelled_dialogues_count_in_coverage_alone(self, written):
        result = evaluate(written(APPEALS), "persuasion", RulesReader())
        assert (result["coverage"], result["precision"]) == (0.8, None)
        assert result["confusion"] == {}


@pytest.mark.parametrize("form", EXAMPLES)
def test_nothing_clicked_and_nothing_private_is_shown(form, written):
    reader = Saying()
    evaluate(written(EXAMPLES[form]), form, reader)
    shown = repr(reader.shown)
    assert len(reader.shown) == len(EXAMPLES[form])
    for hidden in (str(HIDDEN), "Submit-Deal", "Accept-Deal", "<selection>"):
        assert hidden not in shown


@pytest.mark.parametrize("form", EXAMPLES)
def test_a_format_is_told_by_its_records(form, written):
    assert format_of(written(EXAMPLES[form])) == form


@pytest.mark.parametrize(
    ("form", "second", "cause"),
    [
        ("craigslist", "{", "line 2.*JSON"),
        ("craigslist", "[]", "line 2"),
        ("craigslist", {"id": "x"}, "line 2.*events"),
        ("craigslist", bargain("x", 80, price=1.0), "line 2.*text"),
        ("craigslist", bargain("x") | {"outcome": {"deal": True}}, "line 2.*price"),
        ("casino", split(2) | {"outcome": {"agreed": True}}, "line 2.*split"),
        ("casino", split(2) | {"prefs": {}}, "line 2.*prefs"),
        ("deal_or_no_deal", deal("c", "WE: hello"), "line 2.*'YOU:' or 'THEM:'"),
        ("deal_or_no_deal", deal("c") | {"counts": [1]}, "line 2"),
        ("persuasion", appeal("x") | {"turns": [{"role": "other", "text": ""}]}, "line 2.*role"),
    ],
)
def test_a_malformed_record_is_an_error_that_names_the_line(form, second, cause, written):
    with pytest.raises(RecordError, match=f"(?s){cause}"):
        load(written([EXAMPLES[form][0], second]), form)


def test_a_file_without_records_is_an_error(written):
    with pytest.raises(RecordError, match="no records"):
        load(written([""]), "craigslist")
    with pytest.raises(RecordError, match="none of the formats"):
        format_of(written(['{"id": 1}']))


@pytest.mark.parametrize("label", [0, -1, True, "two dollars", None])
def test_malformed_labels_are_an_error(label, written):
    with pytest.raises(RecordError, match="label of x"):
        outcome_reading.load_labels(written([{"labels": {"x": label}}]))


class TestCommand:
    def test_json_is_one_object(self, written, capsys):
        file = written(BARGAINS)
        assert main(["--format", "craigslist", str(file), "--json"]) == 0
        result = json.loads(capsys.readouterr().out)
        assert (result["format"], result["file"], result["reader"]) == (
            "craigslist",
            "some.jsonl",
            "rules",
        )
        assert {"n", "coverage", "precision", "confusion"} <= result.keys()

    def test_a_table_otherwise(self, written, capsys):
        assert main(["--format", "craigslist", str(written(BARGAINS)), "--errors", "1"]) == 0
        told = capsys.readouterr().out
        assert "precision 60.0%" in told
        assert "misread wrong" in told
        assert "none, read as some" not in told

    def test_labels_from_a_file(self, written, capsys):
        labels = written([{"pledged": 1, "kept": 0.5}], "labels.json")
        file = written(APPEALS)
        assert main(["--format", "persuasion", str(file), "--labels", str(labels)]) == 0
        assert "labelled 2, verdicts 2, coverage 100.0%" in capsys.readouterr().out

    def test_all_of_a_folder(self, written, tmp_path, capsys):
        for number, records in enumerate(EXAMPLES.values()):
            written(records, f"{number}.jsonl")
        out = tmp_path / "results.json"
        assert main(["--all", str(tmp_path), "--out", str(out)]) == 0
        results = json.loads(out.read_text())["results"]
        assert [r["format"] for r in results] == list(EXAMPLES)
        assert "deal_or_no_deal (2.jsonl)" in capsys.readouterr().out

    @pytest.mark.parametrize(
        "arguments",
        [
            ["--format", "craigslist", "nowhere.jsonl"],
            ["--all", "nowhere"],
            ["--all", ".", "--reader", "rulez"],
        ],
    )
    def test_what_cannot_be_done_is_said(self, arguments, capsys):
        assert main(arguments) == 1
        assert capsys.readouterr().err.startswith("error: ")

    @pytest.mark.parametrize(
        "arguments",
        [
            [],
            ["some.jsonl"],
            ["some.jsonl", "--all", "."],
            ["some.jsonl", "--format", "casino", "--labels", "x"],
        ],
    )
    def test_what_does_not_fit_together_is_refused(self, arguments, capsys):
        with pytest.raises(SystemExit):
            main(arguments)
        assert "error" in capsys.readouterr().err
