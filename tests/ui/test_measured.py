"""What was expected of starts beside what they took."""

from datetime import timedelta
from typing import Any

import pytest
from django.test import Client

from cortex.access.models import Person
from cortex.catalog.models import Model
from cortex.fleet import clock
from cortex.fleet.models import Attempt, Measurement
from cortex.fleet.states import Observed
from cortex.ui.measured import Beside, Line, beside
from tests import scene
from tests.ui.conftest import SignIn

GIB = scene.GIB
EXPECTED = {"runtime": GIB // 4, "kv_cache": 2 * GIB, "weights": 8 * GIB}


def started(name: str = "small", engine: str = "llamacpp", **row: Any) -> tuple[Model, Attempt]:
    """A model that answers, its start foretold; measured where `row` says what."""
    model = scene.model(name, engine=engine)
    replica = scene.replica(model, scene.host(), Observed.READY, "Answers.")
    attempt = scene.attempt(
        replica, 1, timedelta(minutes=5), ready_at=clock.now(), estimated={"cards": [EXPECTED], "host": {}}
    )
    if row:
        measured: dict[str, Any] = {"estimated": [EXPECTED], "terms": {}, "devices": [], "card": "L40S", **row}
        source = {"model_name": name, "path": model.path, "engine": engine, "gpus": 1, "at": clock.now()}
        Measurement.objects.create(attempt=attempt, image=attempt.image, **source, **measured)
    return model, attempt


def told(found: Beside) -> list[tuple[str, str]]:
    return [(line.name, line.off) for line in found.lines]


@pytest.mark.django_db
def test_terms_stand_in_the_order_in_which_they_weigh_then_the_card() -> None:
    terms = {"weights": 8 * GIB, "kv_cache": GIB}
    found = beside(*started(terms=terms, devices=[10 * GIB]))
    assert told(found) == [("weights", "0.0 %"), ("kv_cache", "+100.0 %"), ("runtime", ""), ("whole card", "+2.5 %")]
    assert found.history[0].line == Line("whole card", 10 * GIB + GIB // 4, 10 * GIB)


@pytest.mark.django_db
def test_a_cache_that_fills_its_share_is_not_held_against_the_estimate() -> None:
    terms = {"weights": 8 * GIB, "kv_cache": 30 * GIB}
    found = beside(*started("served", "vllm", terms=terms, devices=[43 * GIB]))
    assert told(found) == [("weights", "0.0 %"), ("kv_cache", ""), ("runtime", "")]
    assert found.history[0].line == Line("weights", 8 * GIB, 8 * GIB)


@pytest.mark.django_db
@pytest.mark.parametrize("row", [{}, {"terms": {}, "devices": [0]}], ids=["not measured", "cards that tell nothing"])
def test_what_nobody_measured_is_no_zero(row: dict[str, Any]) -> None:
    found = beside(*started(**row))
    assert all(line.measured is None for line in found.lines)
    assert found.missing == "Neither its log nor its cards have told yet what it took."
    assert found.history == []


@pytest.mark.django_db
def test_a_line_that_nobody_foretold_is_not_compared() -> None:
    found = beside(*started(terms={"weights": 8 * GIB, "outputs": GIB}, devices=[]))
    assert found.history[0].line == Line("weights", 8 * GIB, 8 * GIB)


def test_the_page_shows_the_history_without_a_click(at: SignIn, bob: Person) -> None:
    started(terms={"weights": 8 * GIB}, devices=[11 * GIB])
    client: Client = at(bob)
    words = client.get("/models/small").content.decode()
    assert "1 measured start of these weights" in words
    assert "KV cache" in words
    assert "-6.8 %" in words
