"""The examples of the README run as they stand."""

import re
from pathlib import Path

import pytest

README = (Path(__file__).parents[1] / "README.md").read_text(encoding="utf-8")
EXAMPLES = re.findall(r"```python\n(.*?)```", README, re.S)


def test_there_are_examples():
    assert len(EXAMPLES) == 5


@pytest.mark.parametrize("example", EXAMPLES)
def test_an_example_is_short_and_runs(example, capsys, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    lines = [line for line in example.splitlines() if line and not line.startswith("import")]
    assert len(lines) <= 15
    exec(compile(example, "README.md", "exec"), {"__name__": "readme"})
    assert ("print(" in example) == bool(capsys.readouterr().out.strip())
