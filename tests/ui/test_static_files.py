"""Static files as the web process sends them."""

from pathlib import Path

import pytest
from django.test import AsyncClient, Client

# A request looks whether connections that are left open are still good, whoever opened them.
pytestmark = pytest.mark.django_db

ROOT = Path(__file__).parents[2]
ICON = ROOT / "static" / "favicon.svg"
URL = "/static/favicon.svg"


async def test_a_file_is_whole_behind_asgi_and_no_warning_is_given() -> None:
    answer = await AsyncClient().get(URL)
    assert not answer.streaming
    assert answer.content == ICON.read_bytes()
    assert answer["Content-Type"] == "image/svg+xml"
    assert answer["X-Content-Type-Options"] == "nosniff"


def test_a_file_the_browser_has_is_not_sent_again_nor_described_anew() -> None:
    modified = Client().get(URL)["Last-Modified"]
    answer = Client().get(URL, headers={"if-modified-since": modified})
    assert (answer.status_code, answer.content) == (304, b"")
    assert not answer.has_header("Content-Type")


def test_a_head_tells_the_length_and_sends_nothing() -> None:
    answer = Client().head(URL)
    assert (answer["Content-Length"], answer.content) == (str(ICON.stat().st_size), b"")


def test_a_part_is_sent_as_a_part() -> None:
    answer = Client().get(URL, headers={"range": "bytes=5-9"})
    assert (answer.status_code, answer.content) == (206, ICON.read_bytes()[5:10])
