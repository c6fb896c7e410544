"""The table is whole: every fault has a test, or says why not."""

import re
from pathlib import Path

from tests.faults.table import FAULTS, ROWS

TESTS = Path(__file__).parents[1]
MARK = re.compile(r"mark\.fault\((\d+)\)")


def marked() -> set[int]:
    """The faults that tests are about, read from the tests as they are written."""
    return {int(number) for path in TESTS.rglob("test_*.py") for number in MARK.findall(path.read_text())}


def test_every_fault_has_a_test_or_says_why_it_has_none() -> None:
    assert [row.number for row in ROWS] == list(range(1, 51))
    tested = marked()
    assert [row.number for row in ROWS if (row.number in tested) == bool(row.impossible)] == []


def test_no_test_is_about_a_fault_that_is_not_in_the_table() -> None:
    assert marked() - FAULTS.keys() == set()


def test_the_faults_of_every_change_are_those_agreed_on() -> None:
    agreed = {*range(1, 9), 13, *range(16, 21), 25, 33, 34, 44, 49}
    assert {row.number for row in ROWS if row.every_change} == agreed
