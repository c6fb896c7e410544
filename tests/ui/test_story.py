"""An attempt told as steps."""

from datetime import timedelta

import pytest
from django.utils import timezone

from cortex.fleet.models import Attempt
from cortex.ui.story import Snippet, snippets, steps

QUEUED = timezone.now()


def told(**times: float) -> list[tuple[str, str]]:
    """Steps of an attempt whose times are seconds after it was queued."""
    attempt = Attempt(queued_at=QUEUED, **{name: QUEUED + timedelta(seconds=at) for name, at in times.items()})
    return [(step.title, step.state) for step in steps(attempt)]


def test_an_attempt_that_waits() -> None:
    assert told() == [("Queued", "now"), ("Container created", "ahead"), ("Loading", "ahead"), ("Ready", "ahead")]


def test_an_attempt_that_fetches() -> None:
    assert told(fetching_at=1)[:3] == [("Queued", "done"), ("Fetching", "now"), ("Container created", "ahead")]


def test_what_was_fetched_is_all_there_was() -> None:
    attempt = Attempt(queued_at=QUEUED, fetching_at=QUEUED, bytes_done=7 << 30, bytes_total=8 << 30)
    assert steps(attempt)[1].note == "7.0 GiB of 8.0 GiB"
    attempt.created_at = QUEUED + timedelta(seconds=60)
    assert steps(attempt)[1].note == "8.0 GiB"


def test_a_step_that_was_skipped_is_left_out() -> None:
    assert told(created_at=1, started_at=2) == [
        ("Queued", "done"),
        ("Container created", "done"),
        ("Loading", "now"),
        ("Ready", "ahead"),
    ]


def test_a_ready_attempt_is_done() -> None:
    assert told(created_at=1, started_at=2, ready_at=3)[-1] == ("Ready", "done")


def test_a_failed_attempt_ends_where_it_failed() -> None:
    attempt = Attempt(queued_at=QUEUED, ended_at=QUEUED + timedelta(seconds=9), exit_code=1, reason="Out of memory.")
    last = steps(attempt)[-1]
    assert (last.title, last.state, last.note) == ("Ended", "failed", "Out of memory.")
    assert steps(attempt)[0].took == timedelta(seconds=9)


@pytest.mark.parametrize("snippet", snippets("tiny", "http://localhost:8001"), ids=lambda snippet: snippet.id)
def test_snippets_name_the_model_and_the_gateway_and_hold_no_key(snippet: Snippet) -> None:
    assert "tiny" in snippet.text
    assert "http://localhost:8001/v1" in snippet.text
    assert "CORTEX_KEY" in snippet.text


def test_what_the_engine_tells_stands_between_loading_and_ready_with_the_first_answer() -> None:
    assert told(created_at=1, started_at=2, cache_sized_at=5)[2:] == [
        ("Loading", "done"),
        ("Cache sized", "now"),
        ("Ready", "ahead"),
    ]
    times = {"weights_loaded_at": 4, "cache_sized_at": 5, "ready_at": 6, "first_token_at": 18}
    attempt = Attempt(queued_at=QUEUED, **{name: QUEUED + timedelta(seconds=at) for name, at in times.items()})
    assert [step.title for step in steps(attempt)] == ["Queued", "Weights loaded", "Cache sized", "Ready"]
    assert steps(attempt)[-1].note == "first answer 12s later"
