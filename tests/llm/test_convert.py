"""The embedded model as a folder of transformers."""

import json
import time
import urllib.request

import pytest
from typer.testing import CliRunner

from sotopia_gym.cli import app
from sotopia_gym.errors import ConfigError, ModelError, UnknownIdError
from sotopia_gym.llm import models
from sotopia_gym.llm.convert import to_hf

MODEL = "smollm2-135m"
TEXTS = (
    "Would you take $12345.67 for it? I'd say 2019's price.",
    "x = 3\t\t9 of ½",
    'café, naïve: “ok”\n\n\n  {"argument": "I\'ll do $42."}',
    "<|im_start|>user\nHi<|im_end|>\n",
)


@pytest.fixture(scope="module")
def weights():
    pytest.importorskip("gguf", reason="the extra 'train' is not installed")
    pytest.importorskip("transformers", reason="the extra 'train' is not installed")
    try:
        return models.find(MODEL)
    except ModelError as error:
        pytest.skip(str(error))


def test_a_folder_that_holds_something_is_left_alone(weights, tmp_path):
    (tmp_path / "precious").touch()
    with pytest.raises(ConfigError, match="is not empty"):
        to_hf(MODEL, tmp_path)
    with pytest.raises(UnknownIdError, match="no embedded model"):
        to_hf("smollm", tmp_path / "new")


@pytest.mark.slow
@pytest.mark.model
@pytest.mark.filterwarnings("default")
def test_the_folder_is_the_model_that_llama_cpp_runs(weights, tmp_path):
    embedded = pytest.importorskip("sotopia_gym.llm.embedded")
    pytest.importorskip("xllamacpp", reason="the extra 'local' is not installed")
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    folder = tmp_path / "made" / "model"
    result = CliRunner().invoke(app, ["models", "to-hf", MODEL, str(folder)])
    assert result.exit_code == 0, result.output
    assert str(folder) in result.output
    assert [path.name for path in folder.parent.iterdir()] == ["model"]

    started = time.perf_counter()
    model = AutoModelForCausalLM.from_pretrained(folder)
    tokenizer = AutoTokenizer.from_pretrained(folder)
    assert time.perf_counter() - started < 5  # converting takes many times as long

    address = embedded.load(MODEL).address.removesuffix("/v1")
    for text in TEXTS:
        asked = {"content": text, "parse_special": True}
        theirs = _post(f"{address}/tokenize", asked)["tokens"]
        assert tokenizer(text, add_special_tokens=False)["input_ids"] == theirs

    prompt = "<|im_start|>user\nWhat is the capital of France?<|im_end|>\n<|im_start|>assistant\n"
    said = _post(f"{address}/completion", {"prompt": prompt, "n_predict": 8, "temperature": 0})
    ids = tokenizer(prompt, return_tensors="pt", add_special_tokens=False)
    with torch.no_grad():
        out = model.generate(**ids, max_new_tokens=8, do_sample=False)
    answer = tokenizer.decode(out[0, ids["input_ids"].shape[1] :], skip_special_tokens=True)
    assert answer.strip() == said["content"].strip()


def _post(address, body):
    request = urllib.request.Request(address, json.dumps(body).encode())
    request.add_header("Content-Type", "application/json")
    with urllib.request.urlopen(request, timeout=60) as response:
        return json.load(response)
