"""Knowledge before and after training: the questions, how they are asked, what is counted."""

import json
import shutil
import sys
import threading
from collections import Counter
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from eval import knowledge
from eval.knowledge import accuracy, answers, change, gathered, harness_model, main
from eval.knowledge_tasks import formats, harness_tasks, load_questions
from sotopia_gym.benchmark.published import published_knowledge
from sotopia_gym.errors import ConfigError, ModelError
from tests.tiny_model import save_tiny_model

QUESTIONS = load_questions()
SUBJECTS = list(dict.fromkeys(each.subject for each in QUESTIONS))
TEST = [each for each in QUESTIONS if each.split == "test"]


def of(subject, split):
    return [each for each in QUESTIONS if (each.subject, each.split) == (subject, split)]


def letters(question, *, solved=False):
    """A question in the layout that MMLU's authors published."""
    listed = "\n".join(f"{a}. {b}" for a, b in zip("ABCD", question.choices, strict=True))
    end = f" {'ABCD'[question.answer]}\n\n" if solved else ""
    return f"{question.question}\n{listed}\nAnswer:{end}"


def cloze(question, *, solved=False):
    end = f" {question.choices[question.answer]}\n\n" if solved else ""
    return f"Question: {question.question}\nAnswer:{end}"


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    pytest.importorskip("lm_eval", reason="needs the extra 'knowledge'")
    folder = tmp_path_factory.mktemp("models")
    return [save_tiny_model(folder / f"model-{seed}", seed=seed) for seed in (1, 2)]


# --- The questions


def test_every_subject_has_as_many_questions_and_each_letter_is_right_as_often():
    assert len(SUBJECTS) == 12
    for subject in SUBJECTS:
        asked, shown = of(subject, "test"), of(subject, "dev")
        assert (len(asked), len(shown)) == (20, 5)
        assert Counter(each.answer for each in asked) == dict.fromkeys(range(4), 5)
        assert {each.answer for each in shown} == set(range(4))


def test_choices_are_four_and_differ():
    for each in QUESTIONS:
        texts = {choice.strip().casefold() for choice in each.choices}
        assert len(each.choices) == len(texts) == 4, each
        assert "" not in texts
        assert all(choice == choice.strip() for choice in each.choices)


def test_no_question_is_there_twice_and_no_example_is_asked():
    words = [" ".join(each.question.casefold().split()) for each in QUESTIONS]
    assert len(words) == len(set(words)) == 300


def test_the_longest_choice_is_not_the_answer():
    longest = [
        max(map(len, each.choices)) == len(each.choices[each.answer])
        and sum(len(choice) == len(each.choices[each.answer]) for choice in each.choices) == 1
        for each in TEST
    ]
    assert sum(longest) / len(TEST) < 0.25


# --- What models are asked


def asked(form, shots):
    """Every context and continuation that the harness sends to a model."""
    pytest.importorskip("lm_eval", reason="needs the extra 'knowledge'")
    from lm_eval.api.model import LM

    class Listening(LM):
        heard = ()

        def loglikelihood(self, requests, **_):
            self.heard = [request.args for request in requests]
            return [(0.0, False)] * len(requests)

        loglikelihood_rolling = generate_until = None

    model = Listening()
    answers(model, "small", form, shots, seed=0, limit=None)
    return model.heard


@pytest.mark.parametrize("shots", [0, 5])
def test_letters_are_asked_for_in_the_layout_of_mmlu(shots):
    head = "The following are multiple choice questions (with answers) about {}.\n\n"
    expected = set()
    for question in TEST:
        examples = of(question.subject, "dev")[:shots]
        context = head.format(question.subject.replace("_", " "))
        context += "".join(letters(each, solved=True) for each in examples) + letters(question)
        expected |= {(context, f" {letter}") for letter in "ABCD"}
    found = asked("letters", shots)
    assert len(found) == len(expected) == 960
    assert set(found) == expected


def test_cloze_asks_for_the_texts_of_the_choices_and_shows_none_of_them():
    head = "The following are questions (with answers) about {}.\n\n"
    expected = []
    for question in TEST:
        context = head.format(question.subject.replace("_", " "))
        context += "".join(cloze(each, solved=True) for each in of(question.subject, "dev"))
        expected += [(context + cloze(question), f" {choice}") for choice in question.choices]
    assert sorted(asked("cloze", 5)) == sorted(expected)


def test_mmlu_is_asked_in_both_formats():
    assert formats("small") == formats("mmlu") == ("letters", "cloze")


@pytest.mark.slow  # the harness reads thousands of files to know its own tasks
def test_an_unknown_task_is_refused():
    pytest.importorskip("lm_eval", reason="needs the extra 'knowledge'")
    with pytest.raises(ConfigError, match=r"no tasks 'mmlu_astronmy'.*'mmlu_astronomy'"):
        harness_tasks("mmlu_astronmy", "mmlu_astronmy", 0, seed=0)


# --- What is counted


def by_hand(folder, form, question):
    """Whether a model prefers the right choice, from its logits alone."""
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
    tokenizer = AutoTokenizer.from_pretrained(folder)
    kind = "multiple choice questions" if form == "letters" else "questions"
    subject = question.subject.replace("_", " ")
    context = f"The following are {kind} (with answers) about {subject}.\n\n"
    context += (letters if form == "letters" else cloze)(question)
    ends = list("ABCD") if form == "letters" else question.choices
    scores = []
    for end in ends:
        before, after = (
            tokenizer(part, add_special_tokens=False).input_ids for part in (context, f" {end}")
        )
        with torch.no_grad():
            logits = model(torch.tensor([before + after])).logits[0].log_softmax(-1)
        places = range(len(before) - 1, len(before) + len(after) - 1)
        likelihood = sum(float(logits[p, i]) for p, i in zip(places, after, strict=True))
        scores.append(likelihood / (1 if form == "letters" else len(end)))
    return int(scores.index(max(scores)) == question.answer)


@pytest.mark.parametrize("form", ["letters", "cloze"])
def test_a_models_right_answers_are_those_of_its_own_likelihoods(models, form):
    with harness_model(str(models[0])) as lm:
        found = answers(lm, "small", form, 0, seed=0, limit=2)
    expected = {
        subject: [by_hand(models[0], form, each) for each in of(subject, "test")[:2]]
        for subject in SUBJECTS
    }
    assert found == expected
    assert 0 < sum(map(sum, found.values())) < 24
    assert accuracy(found)["value"] == sum(map(sum, expected.values())) / 24


def test_questions_are_resampled_within_subjects():
    known = {"all right": [1] * 20, "all wrong": [0] * 20}
    assert accuracy(known) == {"value": 0.5, "low": 0.5, "high": 0.5}
    mixed = accuracy({"a": [1, 0] * 10, "b": [1, 0] * 10})
    # Of 40 questions, half right: a standard error of .079.
    assert mixed["value"] == 0.5
    assert mixed["high"] - mixed["low"] == pytest.approx(2 * 1.96 * 0.079, abs=0.04)


def test_models_are_compared_question_by_question():
    first = {"a": [1, 1, 1, 0, 0], "b": [0, 0, 0, 1]}
    after = {"a": [0, 1, 1, 1, 1], "b": [1, 1, 1, 1]}
    found = change(after, first)
    assert (found["won"], found["lost"]) == (5, 1)
    assert found["value"] == pytest.approx(4 / 9)
    assert found["low"] < found["value"] < found["high"]
    assert found["p"] == pytest.approx(2 * (1 + 6) / 2**6)  # the two-sided sign test of 5 to 1
    assert change(first, first)["p"] == 1.0


def test_p_is_corrected_for_all_formats_and_numbers_of_examples():
    before, after = {"a": [0] * 10}, {"a": [1] * 10}
    cells = {
        ("base", "letters", 0): before,
        ("base", "cloze", 0): before,
        ("bc", "letters", 0): before,
        ("bc", "cloze", 0): after,
    }
    changes = [each["change"] for each in gathered(cells, 0)]
    assert changes[:2] == [None, None]
    assert [change["p"] for change in changes[2:]] == [1.0, pytest.approx(2 / 2**10)]
    assert [change["p_holm"] for change in changes[2:]] == [1.0, pytest.approx(4 / 2**10)]


def test_published_numbers_are_the_papers():
    found = {row.model: row.accuracy for row in published_knowledge()}
    assert found == {"Mistral-7B": 0.4921, "SR": 0.4346, "BC": 0.4748, "BC+SR": 0.4857}


# --- The command


@pytest.fixture(autouse=True)
def same_environment(monkeypatch):
    """What the command sets for its process is gone after each test."""
    for name in ("HF_HUB_OFFLINE", "HF_DATASETS_OFFLINE", "TQDM_DISABLE"):
        monkeypatch.setenv(name, "1")


def command(models, tmp_path, *more):
    named = [f"{name}={model}" for name, model in zip(("base", "bc"), models, strict=False)]
    return main(["--models", *named, "--limit", "1", "--json", str(tmp_path / "found.json"), *more])


def test_the_command_compares_models_and_says_how(models, tmp_path, capsys):
    assert command(models, tmp_path, "--html", str(tmp_path / "found.html")) == 0
    found = json.loads((tmp_path / "found.json").read_text())
    told = [(c["model"], c["format"], c["shots"], c["questions"]) for c in found["cells"]]
    assert told == [
        (model, form, shots, 12)
        for model in ("base", "bc")
        for form in ("letters", "cloze")
        for shots in (0, 5)
    ]
    before, after = found["cells"][1], found["cells"][5]
    assert before["change"] is None
    gain = after["accuracy"]["value"] - before["accuracy"]["value"]
    assert after["change"]["value"] == pytest.approx(gain, abs=1e-3)
    assert str(tmp_path) not in json.dumps(found)
    assert found["seed"] == 0
    printed, page = capsys.readouterr().out, (tmp_path / "found.html").read_text()
    for shown in (printed, page):
        assert "Mistral-7B" in shown
        assert "another test" in shown
    assert "<svg" in page
    assert not list(tmp_path.glob("*.partial.jsonl"))


def test_an_interrupted_run_goes_on_where_it_stopped(models, tmp_path, monkeypatch):
    class StoppedError(Exception):
        pass

    real, calls = knowledge.answers, []

    def stopping(*arguments, **named):
        calls.append(arguments[2:4])
        if len(calls) == 2:
            raise StoppedError
        return real(*arguments, **named)

    monkeypatch.setattr(knowledge, "answers", stopping)
    with pytest.raises(StoppedError):
        command(models[:1], tmp_path, "--shots", "0")
    assert command(models[:1], tmp_path, "--shots", "0") == 0
    assert calls == [("letters", 0), ("cloze", 0), ("cloze", 0)]


def test_a_run_does_not_go_on_with_another_models_answers(models, tmp_path, monkeypatch):
    """Folders of recipes are all called the same."""
    for name, model in zip(("one", "other"), models, strict=False):
        shutil.copytree(model, tmp_path / name / "model")

    def stopping(*_, **__):
        raise KeyboardInterrupt

    monkeypatch.setattr(knowledge, "answers", stopping)
    with pytest.raises(KeyboardInterrupt):
        command([tmp_path / "one/model"], tmp_path)
    (path,) = tmp_path.glob("*.partial.jsonl")
    kept = path.read_text()
    with path.open("a") as file:
        file.write(json.dumps({"id": "base letters 0", "right": {}}) + "\n")
    with pytest.raises(SystemExit, match="of another run"):
        command([tmp_path / "other/model"], tmp_path)
    assert kept in path.read_text()


def test_credentials_in_an_address_reach_no_file(models, tmp_path, capsys):
    spec = "tiny@http://user:s3cret@127.0.0.1:1/v1"
    assert command([spec], tmp_path, "--tokenizer", str(models[0])) == 1
    assert "has credentials" in (shown := capsys.readouterr().err)
    assert "s3cret" not in shown
    assert not list(tmp_path.iterdir())


def test_without_the_harness_the_extra_is_named(tmp_path, monkeypatch, capsys):
    for name in [each for each in sys.modules if each.split(".")[0] == "lm_eval"]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "lm_eval", None)
    assert command([tmp_path], tmp_path) == 1
    assert "pip install 'sotopia-gym[knowledge]'" in capsys.readouterr().err


def test_a_folder_without_a_model_is_an_error(models, tmp_path, capsys):
    assert command([tmp_path / "none"], tmp_path) == 1
    assert "there is no model in" in capsys.readouterr().err


# --- Models behind an address


@contextmanager
def serving(reply):
    """A server of completions on this machine; what ``reply`` makes of a request is its answer."""

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self):
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            sent = json.dumps(reply(body)).encode()
            self.send_response(200 if self.path == "/v1/completions" else 404)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(sent)))
            self.end_headers()
            self.wfile.write(sent)

        def log_message(self, *_):
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield f"tiny@http://127.0.0.1:{server.server_port}/v1"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def completions(folder):
    """What a server that echoes log-probabilities says, by the model in a folder."""
    import torch
    from transformers import AutoModelForCausalLM

    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)

    def reply(body):
        assert (body["echo"], body["max_tokens"], body["model"]) == (True, 1, "tiny")
        choices = []
        for index, ids in enumerate(body["prompt"]):
            with torch.no_grad():
                told = model(torch.tensor([ids])).logits[0].log_softmax(-1)
            following = [*ids[1:], int(told[-1].argmax())]
            own = [float(told[place, token]) for place, token in enumerate(following)]
            best = [{"best": float(row.max())} for row in told]
            logprobs = {"token_logprobs": [None, *own], "top_logprobs": [None, *best]}
            choices.append({"index": index, "text": "", "logprobs": logprobs})
        return {"choices": choices}

    return reply


def test_a_model_behind_an_address_answers_as_it_does_here(models):
    with serving(completions(models[0])) as spec, harness_model(spec, models[0]) as lm:
        remote = answers(lm, "small", "cloze", 0, seed=0, limit=1)
    with harness_model(str(models[0])) as lm:
        assert remote == answers(lm, "small", "cloze", 0, seed=0, limit=1)


@pytest.mark.parametrize(
    "choice",
    [
        {"index": 0, "text": " It is.", "logprobs": None},
        {"index": 0, "text": " It", "logprobs": {"token_logprobs": [-1.0], "top_logprobs": [{}]}},
    ],
    ids=["none", "of its answer only"],
)
def test_a_server_without_log_probabilities_of_the_prompt_is_refused(models, choice):
    with (
        serving(lambda _: {"choices": [choice]}) as spec,
        pytest.raises(ModelError, match=r'log-probabilities: expected an answer .*"echo": true'),
        harness_model(spec, models[0]),
    ):
        pass


def test_an_address_needs_a_tokenizer(models):
    with (
        pytest.raises(ConfigError, match="--tokenizer FOLDER"),
        harness_model("tiny@http://127.0.0.1:1/v1"),
    ):
        pass
