"""The example of docs/trainers.md runs as it stands, and is as short as it says."""

import re
from pathlib import Path

import pytest

from tests.tiny_model import save_tiny_model

TEXT = (Path(__file__).parents[2] / "docs" / "trainers.md").read_text(encoding="utf-8")


def test_the_example_trains_a_policy(tmp_path, monkeypatch, capsys):
    pytest.importorskip("torch", reason="the extra 'train' is not installed")
    pytest.importorskip("transformers", reason="the extra 'train' is not installed")
    (example,) = re.findall(r"```python\n(.*?)```", TEXT, re.S)
    lines = [line for line in example.splitlines() if line.strip()]
    assert len(lines) < 60
    monkeypatch.chdir(tmp_path)
    model = str(save_tiny_model(tmp_path / "model"))
    # As few ids as will do: a random model never ends an answer.
    example = example.replace("max_tokens=48", "max_tokens=4").replace("group=4", "group=2")
    exec(compile(example, "trainers.md", "exec"), {"__name__": "docs", "MODEL": model})
    assert len(eval(capsys.readouterr().out)) == 2
    assert (tmp_path / "runs/mine/checkpoint-00002/state.pt").is_file()
