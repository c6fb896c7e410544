import time
from pathlib import Path

import pytest

from tools import phase as phases
from tools.phase import Phase, PhaseFailed, phase


@pytest.fixture(autouse=True)
def _logs_elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(phases, "LOGS", tmp_path / "log")


def test_a_phase_ends_with_its_name_and_time(capsys: pytest.CaptureFixture[str]) -> None:
    with phase("Schema"):
        pass
    assert capsys.readouterr().out.split() == ["0.0", "s", "Schema:", "done"]


def test_a_phase_that_fails_says_so_and_passes_the_error_on(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(ZeroDivisionError), phase("Sums"):
        _ = 1 / 0
    assert "Sums: failed" in capsys.readouterr().out


def test_the_first_word_on_how_it_ended_stands(capsys: pytest.CaptureFixture[str]) -> None:
    with phase("Image") as it:
        it.end("not needed")
    said = capsys.readouterr().out
    assert "not needed" in said
    assert "done" not in said


def test_progress_is_paced_where_there_is_no_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    it = Phase("Copy", pace=0.05)
    it.say("too early")
    time.sleep(0.06)
    it.say("10 %")
    it.say("too early again")
    assert capsys.readouterr().out.splitlines()[0].endswith("Copy: 10 %")


def test_a_command_that_fails_is_told_with_its_last_lines_and_its_log(tmp_path: Path) -> None:
    with pytest.raises(PhaseFailed) as failed:
        Phase("Step").run("sh", "-c", "echo first; echo the reason >&2; exit 7")
    assert "ended with status 7" in str(failed.value)
    assert "the reason" in str(failed.value)
    assert (tmp_path / "log" / "sh.log").read_text() == "first\nthe reason\n"


def test_a_command_that_hangs_in_silence_is_ended() -> None:
    before = time.monotonic()
    with pytest.raises(PhaseFailed, match="status 124"):
        Phase("Step").run("sleep", "30", timeout=1)
    assert time.monotonic() - before < 10
