"""The house stands: imports only point down, neighbours do not import each other, none hides in a function."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
FLOORS = {
    "engines": 0,
    "cortex.sizes": 0,
    "cortex.calculator": 1,
    "cortex.placement": 1,
    "cortex.runtime": 1,
    "cortex.catalog": 2,
    "cortex.access": 2,
    "cortex.fleet": 3,
    "cortex.telemetry": 4,
    "cortex.orchestration": 5,
    "cortex.gateway": 6,
    "cortex.api": 6,
    "cortex.ui": 6,
    "cortex.cli": 6,
}
CLI_MAY = {"cortex.cli"}


def room(module: str) -> str | None:
    """The room a module lies in; None for what stands outside the floors."""
    return next((name for name in FLOORS if module == name or module.startswith(f"{name}.")), None)


def faults(path: str, source: str) -> Iterator[str]:
    """What is wrong with one file's imports."""
    here = room(path.removesuffix(".py").replace("/", "."))
    tree = ast.parse(source)
    top = {id(node) for node in ast.walk(tree) if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)}
    for function in (node for node in ast.walk(tree) if id(node) in top):
        inner = [node for node in ast.walk(function) if isinstance(node, ast.Import | ast.ImportFrom)]
        yield from (f"{path}:{node.lineno} imports inside {getattr(function, 'name', '')}()" for node in inner)
    for line, module in imported(tree):
        there = room(module)
        if not here or not there or here == there:
            continue
        if here == "cortex.cli" or FLOORS[there] >= FLOORS[here]:
            yield f"{path}:{line} {here} (floor {FLOORS[here]}) imports {module} (floor {FLOORS[there]})"


def imported(tree: ast.AST) -> Iterator[tuple[int, str]]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from ((node.lineno, alias.name) for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            yield from ((node.lineno, f"{node.module}.{alias.name}") for alias in node.names)


def files() -> list[str]:
    return [str(p.relative_to(ROOT)) for top in ("cortex", "engines") for p in sorted((ROOT / top).rglob("*.py"))]


@pytest.mark.parametrize("path", files())
def test_imports_only_point_down(path: str) -> None:
    assert not list(faults(path, (ROOT / path).read_text()))


@pytest.mark.parametrize(
    ("path", "planted"),
    [
        ("engines/vllm.py", "from cortex.fleet.models import Host"),
        ("cortex/fleet/models.py", "from cortex.orchestration import orders"),
        ("cortex/api/views.py", "from cortex.ui import forms"),
        ("cortex/cli/main.py", "from cortex.catalog.models import Model"),
        ("cortex/runtime/fake.py", "def f():\n    import json"),
    ],
)
def test_a_planted_fault_is_found(path: str, planted: str) -> None:
    assert list(faults(path, planted))
