"""The page of faults: nothing that was seen is left out, least of all what went wrong."""

from typing import Any

import pytest

from tests.faults.table import FAULTS
from tools import faults


def result(number: int, **more: Any) -> dict[str, Any]:
    told = {"test": "tests/faults/test_x.py::test_it_converges", "outcome": "passed", "why": "", "docker": False}
    return told | {"faults": [number], "seen": [], "seconds": None, "calls": None, "violations": []} | more


def row(number: int, *results: dict[str, Any]) -> list[str]:
    """The cells of one fault."""
    lines = faults.page(results).splitlines()
    found = next(line for line in lines if line.startswith((f"| {number} |", f"| **{number}** |")))
    return [cell.strip() for cell in found.replace("\\|", "").split("|")[1:-1]]


def test_what_several_tests_saw_is_one_row() -> None:
    one = result(3, seen=["Adopted."], seconds=1.25, calls=2)
    other = result(3, seen=["Not doubled."], seconds=4.0, calls=3, docker=True)
    cells = row(3, one, other)
    assert cells == [
        "**3**",
        FAULTS[3].title,
        FAULTS[3].expected,
        "Adopted. Not doubled.",
        "Docker, imaginary",
        "4.0",
        "5",
    ]


def test_a_fault_that_failed_is_shown_as_failed_beside_what_passed() -> None:
    bad = result(3, outcome="failed", why="assert 2 == 1", seen=["half"])
    assert row(3, bad, result(3, seen=["Adopted."]))[3] == "**failed**: it converges: assert 2 == 1 Adopted."


def test_a_violation_is_shown() -> None:
    bad = result(3, outcome="failed", why="AssertionError", violations=["rule 3: a seat is held."])
    assert "**fsck**: rule 3: a seat is held." in row(3, bad)[3]


def test_a_fault_that_was_not_tried_says_so() -> None:
    assert row(3)[3] == "**not run**"
    assert row(3, result(3, outcome="skipped", why="Skipped: no hook"))[3] == "Not produced here: Skipped: no hook"


@pytest.mark.parametrize("words", ["a | b", "two\nlines", "<script>"])
def test_no_engines_words_break_the_table(words: str) -> None:
    lines = faults.page([result(3, seen=[words])]).splitlines()
    assert len([line for line in lines if line.startswith("| ")]) == len(FAULTS) + 1
    assert "<script>" not in "".join(lines)


def test_a_test_that_ran_again_is_told_as_it_ran_last() -> None:
    before = [result(3, outcome="failed"), result(4, test="another")]
    now = [result(3, seen=["Adopted."])]
    assert faults.latest(before, now) == [before[1], *now]
