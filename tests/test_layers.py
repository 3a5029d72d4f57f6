"""Imports point one way, from what is built on to what it stands on."""

import ast
from pathlib import Path

import pytest

import sotopia_gym

PACKAGE = Path(sotopia_gym.__file__).parent
BOTTOM = (
    *("errors", "files", "version", "stats", "tasks", "llm", "outcomes"),
    *("envs.dialogue", "envs.transcript"),
)
LAYERS = (
    BOTTOM,
    ("episodes",),
    ("agents", "judges"),
    ("envs",),
    ("registration", "rollout"),
    ("benchmark", "training"),
    ("integrations", "web"),
    ("cli",),
)


def layer(module: str) -> int:
    """The number of the layer that a module, named without the package, belongs to."""
    for number, names in enumerate(LAYERS):
        if any(module == name or module.startswith(f"{name}.") for name in names):
            return number
    raise AssertionError(f"{module} belongs to no layer")


def imported(path: Path) -> list[str]:
    """The modules of the package that a file imports, but for type checking."""
    found = []
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING":
            for unread in ast.walk(node):
                if isinstance(unread, ast.ImportFrom):
                    unread.module = None
        elif isinstance(node, ast.ImportFrom) and (node.module or "").startswith("sotopia_gym"):
            base = (node.module or "").removeprefix("sotopia_gym").removeprefix(".")
            for alias in node.names:
                file = PACKAGE.joinpath(*filter(None, base.split(".")), alias.name)
                is_module = file.with_suffix(".py").is_file() or file.is_dir()
                found.append(f"{base}.{alias.name}".strip(".") if is_module else base)
    return found


@pytest.mark.parametrize(
    "path", sorted(PACKAGE.rglob("*.py")), ids=lambda p: str(p.relative_to(PACKAGE))
)
def test_nothing_imports_what_is_built_on_it(path):
    name = ".".join(path.relative_to(PACKAGE).with_suffix("").parts).removesuffix(".__init__")
    if name in ("__init__", "envs"):
        return
    for module in imported(path):
        if module:
            assert layer(module) <= layer(name), f"{name} imports {module}"


def test_training_needs_no_benchmark_and_only_its_hooks_play():
    for path in (PACKAGE / "training").glob("*.py"):
        refused = ("benchmark",) if path.name == "hooks.py" else ("benchmark", "rollout")
        for module in imported(path):
            assert module.split(".")[0] not in refused, f"{path.name}: {module}"


def test_a_benchmark_needs_no_training():
    for path in (PACKAGE / "benchmark").glob("*.py"):
        assert not [module for module in imported(path) if module.startswith("training")]


@pytest.mark.parametrize("folder", ["eval", "baselines", "tests"])
def test_the_library_knows_nothing_of_what_uses_it(folder):
    for path in PACKAGE.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.ImportFrom):
                assert (node.module or "").split(".")[0] != folder
