"""What the tests of faults saw, as JSON lines: one per test and fault."""

import json
from pathlib import Path
from typing import Any

import pytest

from tests.faults.table import FAULTS

FACTS = "facts"


def prepare(items: list[pytest.Item], *, all_faults: bool) -> list[pytest.Item]:
    """Give each test of a fault a place for its facts; those that are not to run now."""
    rare = []
    for item in items:
        numbers = sorted({mark.args[0] for mark in item.iter_markers("fault")})
        if numbers:
            item.user_properties.append((FACTS, {"faults": numbers, "docker": is_real(item)}))
        if numbers and not all_faults and not any(FAULTS[number].every_change for number in numbers):
            rare.append(item)
    return rare


def is_real(item: pytest.Item) -> bool:
    return item.get_closest_marker("docker") is not None


def facts_of(item: pytest.Item) -> dict[str, Any]:
    """Where a test of a fault leaves what it saw. Raises KeyError for other tests."""
    found: dict[str, Any] = dict(item.user_properties)[FACTS]  # type: ignore[assignment]
    return found


class Writer:
    """Adds a line to `path` for each test of a fault that ended, whatever came of it."""

    def __init__(self, path: Path) -> None:
        self._path = path
        path.write_text("")

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        facts: Any = dict(report.user_properties).get(FACTS)
        if facts is None or (report.when != "call" and report.passed):
            return
        line = {"test": report.nodeid, "outcome": report.outcome, "why": _why(report), **facts}
        with self._path.open("a") as lines:
            lines.write(json.dumps(line) + "\n")


def _why(report: pytest.TestReport) -> str:
    """Why it failed or was skipped, in one line."""
    if report.skipped and isinstance(report.longrepr, tuple):
        return report.longrepr[2]
    crash = getattr(report.longrepr, "reprcrash", None)
    told = crash.message if crash else report.longreprtext
    return told.strip().partition("\n")[0]
