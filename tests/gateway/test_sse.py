"""Events pass whole and untouched; their usage is counted, and left out where nobody asked for it."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cortex.gateway.sse import LONGEST_EVENT, Events, usage_in

USAGE = {"prompt_tokens": 7, "completion_tokens": 5, "prompt_tokens_details": {"cached_tokens": 2}}
DONE = b"data: [DONE]\n\n"


def event(text: str = "", **more: Any) -> bytes:
    return b"data: " + json.dumps({"choices": [{"delta": {"content": text}}], **more}).encode() + b"\n\n"


LAST = b"data: " + json.dumps({"choices": [], "usage": USAGE}).encode() + b"\n\n"


def passed(stream: bytes, sizes: list[int], *, ours: bool) -> tuple[bytes, list[dict[str, Any]], Events]:
    counted: list[dict[str, Any]] = []
    events, out = Events(counted.append, ours=ours), b""
    for size in [*sizes, len(stream)]:
        part, stream = stream[:size], stream[size:]
        out += events.feed(part) if part else b""
    return out, counted, events


@given(st.lists(st.integers(1, 60), max_size=40))
def test_however_the_bytes_are_cut_only_the_usage_nobody_asked_for_is_left_out(sizes: list[int]) -> None:
    words = event("Hello") + event('"usage": {"prompt_tokens": 1}') + event("world")
    out, counted, events = passed(words + LAST + DONE, sizes, ours=True)
    assert out == words + DONE
    assert counted == [USAGE]
    assert (events.done, events.frames) == (True, 5)


@given(st.lists(st.integers(1, 60), max_size=40))
def test_who_asked_for_the_usage_gets_every_byte(sizes: list[int]) -> None:
    stream = event("Hello") + LAST + DONE
    out, counted, _ = passed(stream, sizes, ours=False)
    assert (out, counted) == (stream, [USAGE])


def test_usage_beside_a_choice_stays() -> None:
    stream = event("end", usage=USAGE) + DONE
    assert passed(stream, [], ours=True)[:2] == (stream, [USAGE])


def test_usage_that_is_null_is_no_usage() -> None:
    stream = event("word", usage=None) + DONE
    assert passed(stream, [], ours=True)[:2] == (stream, [])


def test_events_may_end_with_carriage_returns() -> None:
    stream = (event("Hello") + LAST + DONE).replace(b"\n", b"\r\n")
    out, counted, events = passed(stream, [9, 30], ours=True)
    assert (out, counted, events.done) == ((event("Hello") + DONE).replace(b"\n", b"\r\n"), [USAGE], True)


def test_comments_that_keep_the_line_alive_pass() -> None:
    assert passed(b":\n\n", [], ours=True)[0] == b":\n\n"


def test_a_model_that_says_done_is_not_done() -> None:
    assert not passed(event("\ndata: [DONE]\n\n"), [], ours=True)[2].done


def test_an_event_without_end_is_not_kept_for_ever() -> None:
    events = Events(lambda _: None, ours=True)
    assert events.feed(b"x" * LONGEST_EVENT) == b""
    assert len(events.feed(b"x")) == LONGEST_EVENT + 1


@pytest.mark.parametrize("spaces", ["", " ", "\n  "])
def test_usage_is_found_in_whole_answers(spaces: str) -> None:
    body = f'{{"usage"{spaces}:{spaces}{json.dumps(USAGE)}, "choices": []}}'
    assert usage_in(body.encode()) == USAGE
    assert usage_in(b'{"choices": []}') is None
