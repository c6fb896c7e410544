"""Log lines on their way to the broker: who prints without end is read more slowly."""

import time

import pytest

from cortex.orchestration import shipping
from cortex.runtime.contract import LogLine


def test_no_more_than_so_many_lines_a_second_are_read(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shipping, "A_SECOND", 10)
    began = time.monotonic()
    assert len(list(shipping.paced(LogLine(number, "x") for number in range(15)))) == 15
    assert 0.9 < time.monotonic() - began < 3
