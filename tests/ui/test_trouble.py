import json
from collections.abc import Callable

import pytest
from django.db import OperationalError
from django.test import Client

from cortex.access.models import Person
from cortex.ui import gate
from tests.ui.conftest import SignIn

pytestmark = pytest.mark.django_db
Break = Callable[[Exception], Client]


@pytest.fixture
def broken(at: SignIn, bob: Person, monkeypatch: pytest.MonkeyPatch) -> Break:
    """Bob's browser, where each page ends in this error."""

    def broken(error: Exception) -> Client:
        client = at(bob)
        client.raise_request_exception = False

        def fail(*words: object) -> None:
            raise error

        monkeypatch.setattr(gate, "turned_away", fail)
        return client

    return broken


def test_a_database_that_is_away_is_said_on_a_page_that_needs_none(
    broken: Break, django_assert_num_queries: Callable[[int], object]
) -> None:
    client = broken(OperationalError("connection refused"))
    with django_assert_num_queries(0):  # type: ignore[attr-defined]
        answer = client.get("/")
    assert answer.status_code == 503
    assert "Cortex cannot reach its database." in answer.content.decode()
    assert "models run on" in answer.content.decode()


def test_an_error_that_nobody_expected_names_the_request(broken: Break) -> None:
    answer = broken(ZeroDivisionError()).get("/", headers={"X-Request-Id": "abc-123"})
    assert answer.status_code == 500
    assert "Cortex failed." in answer.content.decode()
    assert "abc-123" in answer.content.decode()


def test_a_button_that_failed_says_so_where_it_was_pressed(broken: Break) -> None:
    client = broken(OperationalError("connection refused"))
    answer = client.post("/models/tiny/start", headers={"HX-Request": "true"})
    told = json.loads(answer["HX-Trigger"])["cortex:toast"]
    assert (answer.status_code, answer["HX-Reswap"], told["error"]) == (503, "none", True)
    assert told["words"].startswith("Cortex cannot reach its database.")


def test_what_the_page_asks_by_itself_raises_no_toast(broken: Break) -> None:
    answer = broken(OperationalError("connection refused")).get("/", headers={"HX-Request": "true"})
    assert (answer.status_code, answer["HX-Reswap"], "HX-Trigger" in answer) == (503, "none", False)
