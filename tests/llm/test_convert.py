"""The embedded model as a folder of transformers, and such folders as GGUF files."""

import json
import shutil
import sys
import time
import urllib.request

import numpy as np
import pytest
from typer.testing import CliRunner

import sotopia_gym
from sotopia_gym.cli import app
from sotopia_gym.errors import ConfigError, MissingDependencyError, ModelError, UnknownIdError
from sotopia_gym.llm import models
from sotopia_gym.llm.convert import to_gguf, to_hf
from tests.tiny_model import save_tiny_model

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


@pytest.fixture(scope="module")
def converted(weights, tmp_path_factory):
    """The embedded model as a folder."""
    folder = tmp_path_factory.mktemp("converted") / "made" / "model"
    result = CliRunner().invoke(app, ["models", "to-hf", MODEL, str(folder)])
    assert result.exit_code == 0, result.output
    assert str(folder) in result.output
    assert [path.name for path in folder.parent.iterdir()] == ["model"]
    yield folder
    shutil.rmtree(folder)


@pytest.mark.slow
@pytest.mark.model
@pytest.mark.filterwarnings("default")
def test_the_folder_is_the_model_that_llama_cpp_runs(converted):
    embedded = pytest.importorskip("sotopia_gym.llm.embedded")
    pytest.importorskip("xllamacpp", reason="the extra 'local' is not installed")
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    started = time.perf_counter()
    model = AutoModelForCausalLM.from_pretrained(converted)
    tokenizer = AutoTokenizer.from_pretrained(converted)
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


# --- GGUF files, with a tiny model -----------------------------------------------------------

# What llama.cpp and transformers call the tensors of a layer.
LAYER = {
    "attn_norm": "input_layernorm",
    "attn_q": "self_attn.q_proj",
    "attn_k": "self_attn.k_proj",
    "attn_v": "self_attn.v_proj",
    "attn_output": "self_attn.o_proj",
    "ffn_norm": "post_attention_layernorm",
    "ffn_gate": "mlp.gate_proj",
    "ffn_up": "mlp.up_proj",
    "ffn_down": "mlp.down_proj",
}
NAMES = {
    "token_embd.weight": "model.embed_tokens.weight",
    **{
        f"blk.{number}.{theirs}.weight": f"model.layers.{number}.{ours}.weight"
        for number in range(2)
        for theirs, ours in LAYER.items()
    },
    "output_norm.weight": "model.norm.weight",
}


@pytest.fixture(scope="module")
def tiny(tmp_path_factory):
    """A folder with a tiny model whose every weight is its own, and a GGUF file of its layout."""
    pytest.importorskip("gguf", reason="the extra 'train' is not installed")
    torch = pytest.importorskip("torch", reason="the extra 'train' is not installed")
    transformers = pytest.importorskip("transformers", reason="the extra 'train' is not installed")
    folder = save_tiny_model(tmp_path_factory.mktemp("tiny") / "model")
    config = transformers.AutoConfig.from_pretrained(folder, tie_word_embeddings=True)
    model = transformers.LlamaForCausalLM(config)
    with torch.no_grad():
        for number, weight in enumerate(model.parameters()):
            noise = torch.randn(weight.shape, generator=torch.Generator().manual_seed(number))
            weight.copy_(0.3 * noise if weight.ndim > 1 else 1 + 0.1 * noise)
    model.save_pretrained(folder)
    return folder, write_layout(model, folder.parent / "layout.gguf")


def write_layout(model, path):
    """A GGUF file for such a model, with zeros for weights."""
    import gguf
    from tokenizers import pre_tokenizers

    config = model.config
    writer = gguf.GGUFWriter(path, "llama")
    writer.add_name("Tiny")
    writer.add_block_count(config.num_hidden_layers)
    writer.add_context_length(128)
    writer.add_embedding_length(config.hidden_size)
    writer.add_feed_forward_length(config.intermediate_size)
    writer.add_head_count(config.num_attention_heads)
    writer.add_head_count_kv(config.num_key_value_heads)
    writer.add_layer_norm_rms_eps(config.rms_norm_eps)
    writer.add_rope_freq_base(config.rope_parameters["rope_theta"])
    writer.add_file_type(gguf.LlamaFileType.MOSTLY_Q4_1)
    writer.add_languages(["en"])
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("smollm")
    letters = sorted(pre_tokenizers.ByteLevel.alphabet())
    writer.add_token_list([*letters, "<|end|>", "<|pad|>", "<|start|>"])
    writer.add_token_types([gguf.TokenType.NORMAL] * 256 + [gguf.TokenType.CONTROL] * 3)
    writer.add_token_merges(["Ġ Ġ"])
    writer.add_eos_token_id(256)
    writer.add_chat_template("{{ messages }}")
    for theirs, ours in NAMES.items():
        writer.add_tensor(theirs, np.zeros(model.state_dict()[ours].shape, np.float32))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return str(path)


def loaded(folder):
    from transformers import AutoModelForCausalLM

    return AutoModelForCausalLM.from_pretrained(folder)


def tensors(path):
    import gguf

    return {tensor.name: tensor for tensor in gguf.GGUFReader(path).tensors}


def as_llama_cpp_has_it(name, weight, config):
    """The rows of a projection, one by one: pairs that are rotated together are neighbours."""
    heads = {"attn_q": config.num_attention_heads, "attn_k": config.num_key_value_heads}
    heads = heads.get(name.split(".")[-2])
    if heads is None:
        return weight
    size = len(weight) // heads
    return np.stack(
        [
            weight[head * size + half * size // 2 + pair]
            for head in range(heads)
            for pair in range(size // 2)
            for half in range(2)
        ]
    )


@pytest.mark.parametrize("dtype", ["f32", "f16", "q8_0"])
def test_every_weight_is_where_llama_cpp_looks_for_it(tiny, tmp_path, dtype):
    import gguf

    folder, layout = tiny
    path = to_gguf(folder, tmp_path / "new" / "model.gguf", like=layout, dtype=dtype)
    assert [file.name for file in path.parent.iterdir()] == ["model.gguf"]
    model = loaded(folder)
    written = tensors(path)
    assert list(written) == list(NAMES)
    for name, tensor in written.items():
        weight = model.state_dict()[NAMES[name]].numpy()
        expected = as_llama_cpp_has_it(name, weight, model.config)
        assert tensor.tensor_type.name == ("F32" if weight.ndim == 1 else dtype.upper())
        found = gguf.quants.dequantize(tensor.data, tensor.tensor_type)
        if tensor.tensor_type.name == "Q8_0":
            # Half a step, of which 127 reach the largest of a block; the step is a float16.
            steps = np.abs(expected.reshape(-1, 32)).max(1, keepdims=True) / 127
            assert (np.abs((found - expected).reshape(-1, 32)) <= 0.57 * steps).all()
        else:
            precise = np.float16 if tensor.tensor_type.name == "F16" else np.float32
            assert (found == expected.astype(precise)).all()


def test_all_but_weights_and_precision_is_copied(tiny, tmp_path):
    import gguf

    folder, layout = tiny
    path = to_gguf(folder, tmp_path / "model.gguf", like=layout, dtype="f16")
    before, after = (
        {
            name: (field.types, field.contents())
            for name, field in gguf.GGUFReader(file).fields.items()
        }
        for file in (layout, path)
    )
    assert set(after) == set(before)
    assert {name for name in before if before[name] != after[name]} == {"general.file_type"}
    assert after["general.file_type"][1] == gguf.LlamaFileType.MOSTLY_F16


def test_an_output_layer_of_its_own_is_written_too(tiny, tmp_path):
    folder = save_tiny_model(tmp_path / "model")
    path = to_gguf(folder, tmp_path / "model.gguf", like=tiny[1], dtype="f32")
    output = loaded(folder).lm_head.weight.detach().numpy()
    assert (tensors(path)["output.weight"].data == output).all()
    assert not (tensors(path)["token_embd.weight"].data == output).all()


@pytest.mark.filterwarnings("ignore:.*is_gradient_checkpointing:FutureWarning")
def test_an_adapter_is_merged_into_its_base(tiny, tmp_path):
    peft = pytest.importorskip("peft")
    folder, layout = tiny
    config = peft.LoraConfig(target_modules=["v_proj"], init_lora_weights=False, r=2)
    adapted = peft.get_peft_model(loaded(folder), config)
    adapted.save_pretrained(tmp_path / "adapter")
    path = to_gguf(tmp_path / "adapter", tmp_path / "model.gguf", like=layout, dtype="f32")
    written = tensors(path)
    for name, weight in adapted.merge_and_unload().state_dict().items():
        if "v_proj" in name:
            found = written[f"blk.{name.split('.')[2]}.attn_v.weight"].data
            assert found == pytest.approx(weight.numpy(), abs=1e-6)
            assert found != pytest.approx(loaded(folder).state_dict()[name].numpy(), abs=1e-3)


def logprobs(address, ids):
    """Of each token that llama.cpp might write next, in the order of their ids."""
    asked = {
        "prompt": ids,
        "n_predict": 1,
        "n_probs": 1 << 16,
        "cache_prompt": False,
        # It tells nothing of a token that ends the answer, or is half a letter; the grammar changes
        # what is drawn, not how probable it was.
        "grammar": 'root ::= "a"',
    }
    (said,) = _post(f"{address.removesuffix('/v1')}/completion", asked)["completion_probabilities"]
    return np.array([it["logprob"] for it in sorted(said["top_logprobs"], key=lambda it: it["id"])])


def expected_logprobs(model, ids):
    import torch

    with torch.no_grad():
        return torch.log_softmax(model(torch.tensor([ids])).logits[0, -1], -1).numpy()


@pytest.mark.parametrize("tied", [True, False])
def test_what_is_trained_is_what_llama_cpp_plays(tiny, tmp_path, tied):
    pytest.importorskip("xllamacpp", reason="the extra 'local' is not installed")
    from sotopia_gym.llm import embedded

    folder, layout = tiny
    folder = folder if tied else save_tiny_model(tmp_path / "model")
    path = to_gguf(folder, tmp_path / "model.gguf", like=layout, dtype="f32")
    ids = list(b"Would you take $40 for it?")
    found = logprobs(embedded.load(str(path)).address, ids)
    # Its keys and values are kept in float16.
    assert found == pytest.approx(expected_logprobs(loaded(folder), ids), abs=0.05)

    changed = loaded(folder)
    changed.model.layers[1].self_attn.k_proj.weight.data *= -1
    changed.save_pretrained(tmp_path / "changed")
    path.unlink()
    to_gguf(tmp_path / "changed", path, like=layout, dtype="f32")
    after = logprobs(embedded.load(str(path)).address, ids)
    assert after == pytest.approx(expected_logprobs(changed, ids), abs=0.05)
    assert np.abs(after - found).max() > 0.5


def other_sizes(config):
    config.vocab_size += 1


def fewer_layers(config):
    config.num_hidden_layers = 1


def more_layers(config):
    config.num_hidden_layers = 3


def biases(config):
    config.attention_bias = True


def other_heads(config):
    config.num_attention_heads, config.num_key_value_heads, config.head_dim = 8, 4, 4


def other_rotation(config):
    config.rope_parameters["rope_theta"] = 500.0


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        (other_sizes, r"token_embd.weight has the shape \(260, 32\), expected \(259, 32\)"),
        (fewer_layers, r"blk.1.attn_norm.weight has the shape \(it is missing\), expected \(32,\)"),
        (more_layers, r"model.layers.2.\S+ has the shape .*, expected no such tensor"),
        (biases, r"blk.0.attn_q.bias has the shape \(32,\), expected no such tensor"),
        (other_heads, "llama.attention.head_count is 8, expected 4"),
        (other_rotation, "llama.rope.freq_base is 500.0, expected 10000.0"),
    ],
)
def test_another_llama_is_refused(tiny, tmp_path, change, problem):
    from transformers import LlamaForCausalLM

    folder, layout = tiny
    config = loaded(folder).config
    change(config)
    LlamaForCausalLM(config).save_pretrained(tmp_path / "model")
    with pytest.raises(ModelError, match=f"model is not like {layout}: .*{problem}"):
        to_gguf(tmp_path / "model", tmp_path / "model.gguf", like=layout)
    assert [path.name for path in tmp_path.iterdir()] == ["model"]


def test_another_architecture_is_refused(tiny, tmp_path):
    from transformers import GPT2Config, GPT2LMHeadModel

    config = GPT2Config(n_layer=1, n_head=2, n_embd=8, vocab_size=16, n_positions=8)
    GPT2LMHeadModel(config).save_pretrained(tmp_path / "model")
    with pytest.raises(ModelError, match="architecture 'llama' of both, found 'gpt2' and 'llama'"):
        to_gguf(tmp_path / "model", tmp_path / "model.gguf", like=tiny[1])


def test_a_model_that_is_broken_is_refused(tiny, tmp_path):
    from safetensors.numpy import load_file, save_file

    folder, layout = tiny
    copy = tmp_path / "model"
    shutil.copytree(folder, copy)
    weights = load_file(copy / "model.safetensors")
    for name, weight, problem in (
        ("model.norm.weight", None, "is not whole: model.norm.weight is missing"),
        ("model.norm.weight", np.full(32, np.nan, np.float32), "output_norm.weight .* not finite"),
    ):
        changed = {**weights, name: weight}
        kept = {name: weight for name, weight in changed.items() if weight is not None}
        save_file(kept, copy / "model.safetensors", metadata={"format": "pt"})
        with pytest.raises(ModelError, match=problem):
            to_gguf(copy, tmp_path / "model.gguf", like=layout)
    (copy / "model.safetensors").write_bytes(b"half")
    with pytest.raises(ModelError, match="cannot be loaded"):
        to_gguf(copy, tmp_path / "model.gguf", like=layout)
    for none in (tmp_path, tmp_path / "nowhere"):
        with pytest.raises(ModelError, match=f"no model in {none}; expected a folder"):
            to_gguf(none, tmp_path / "model.gguf", like=layout)
    assert [path.name for path in tmp_path.iterdir()] == ["model"]


def test_files_and_names_that_make_no_sense_are_refused(tiny, tmp_path, monkeypatch):
    folder, layout = tiny
    path = tmp_path / "model.gguf"
    with pytest.raises(ConfigError, match="no dtype 'q4'; expected one of q8_0, f16, f32"):
        to_gguf(folder, path, like=layout, dtype="q4")
    with pytest.raises(ConfigError, match=r"ends in \.gguf"):
        to_gguf(folder, tmp_path / "model", like=layout)
    with pytest.raises(UnknownIdError, match="Did you mean 'smollm2-135m'"):
        to_gguf(folder, path, like="smollm")
    with pytest.raises(ModelError, match=r"there is no file nowhere\.gguf"):
        to_gguf(folder, path, like="nowhere.gguf")
    (tmp_path / "other.gguf").write_bytes(b"x" * 100)
    with pytest.raises(ModelError, match="cannot be read as a GGUF file"):
        to_gguf(folder, path, like=str(tmp_path / "other.gguf"))
    with monkeypatch.context() as patch:
        patch.setitem(sys.modules, "gguf", None)
        with pytest.raises(MissingDependencyError, match=r"'gguf'.*sotopia-gym\[train\]"):
            to_gguf(folder, path, like=layout)
    path.write_bytes(b"precious")
    with pytest.raises(ConfigError, match="exists"):
        to_gguf(folder, path, like=layout)
    assert path.read_bytes() == b"precious"


# --- GGUF files, with the real one ------------------------------------------------------------


PROMPTS = (
    "<|im_start|>user\nWhat is the capital of France?<|im_end|>\n<|im_start|>assistant\n",
    "<|im_start|>user\nWould you take $42 for the lamp?<|im_end|>\n<|im_start|>assistant\nI",
    "The price of the old radio is $120, and she said that she would",
    '{"action_type": "speak", "argument": "How about $60',
)


@pytest.fixture(scope="module")
def trained(converted, tmp_path_factory):
    """The embedded model with every weight moved a little, off the grid of its file."""
    import torch

    model = loaded(converted)
    torch.manual_seed(0)
    with torch.no_grad():
        for weight in model.parameters():
            weight.mul_(1 + 0.05 * torch.randn(weight.shape))
    folder = tmp_path_factory.mktemp("trained")
    model.save_pretrained(folder)
    yield folder
    shutil.rmtree(folder)


@pytest.mark.slow
@pytest.mark.model
@pytest.mark.filterwarnings("default")
@pytest.mark.parametrize(
    ("dtype", "tolerance", "divergence"),
    # Seen: 0.012 and 0.021 (llama.cpp keeps keys and values, and with f16 also what it multiplies
    # with the weights, in float16), and 0.53 with a divergence of 0.007 (it multiplies in 8 bits,
    # which alone makes 0.39 and 0.007 for the embedded model's own file).
    [("f32", 0.03, 1e-4), ("f16", 0.06, 1e-3), ("q8_0", 0.8, 0.02)],
)
def test_a_trained_model_is_as_probable_in_llama_cpp(
    converted, trained, tmp_path, dtype, tolerance, divergence
):
    embedded = pytest.importorskip("sotopia_gym.llm.embedded")
    pytest.importorskip("xllamacpp", reason="the extra 'local' is not installed")
    from transformers import AutoTokenizer

    path = tmp_path / "trained.gguf"
    command = ["models", "to-gguf", str(trained), str(path), "--dtype", dtype]
    result = CliRunner().invoke(app, command)
    assert result.exit_code == 0, result.output
    assert f"local/{path}" in result.output

    model, tokenizer = loaded(trained), AutoTokenizer.from_pretrained(converted)
    address = embedded.load(str(path)).address
    for text in (*TEXTS, *PROMPTS):
        asked = {"content": text, "parse_special": True}
        ids = tokenizer(text, add_special_tokens=False)["input_ids"]
        assert _post(f"{address.removesuffix('/v1')}/tokenize", asked)["tokens"] == ids
        expected, found = expected_logprobs(model, ids), logprobs(address, ids)
        likely = expected.argsort()[-100:]
        assert found[likely] == pytest.approx(expected[likely], abs=tolerance)
        assert (np.exp(expected) * (expected - found)).sum() < divergence
        untrained = logprobs(embedded.load(MODEL).address, ids)
        assert np.abs(untrained - found)[likely].max() > 1.2
    path.unlink()


@pytest.mark.model
def test_a_gguf_file_plays_and_the_episode_tells_which(weights):
    pytest.importorskip("xllamacpp", reason="the extra 'local' is not installed")
    env = sotopia_gym.make("sotopia-v0", max_turns=3)
    spec = f"local/{weights}?prompt=chat"
    episode = sotopia_gym.play(env, {"agent_0": spec, "agent_1": "scripted/fair"}, seed=0)
    assert episode.agents["agent_0"] == spec
    assert episode.prompts["agent_0"].startswith("chat-")
    assert episode.usage["agent_0"].completion_tokens > 0
    (model,) = episode.models["agent_0"]
    assert model.endswith(f" sha256:{models.get_model(MODEL).sha256[:12]}")


def test_a_file_that_llama_cpp_cannot_load_says_so(tmp_path):
    pytest.importorskip("xllamacpp", reason="the extra 'local' is not installed")
    path = tmp_path / "model.gguf"
    with pytest.raises(ModelError, match=f"models to-gguf FOLDER {path}"):
        sotopia_gym.agents.from_spec(f"local/{path}")
    path.write_bytes(b"not a model")
    with pytest.raises(ModelError, match=f"llama.cpp could not load {path}"):
        sotopia_gym.agents.from_spec(f"local/{path}")


def _post(address, body):
    request = urllib.request.Request(address, json.dumps(body).encode())
    request.add_header("Content-Type", "application/json")
    with urllib.request.urlopen(request, timeout=60) as response:
        return json.load(response)
