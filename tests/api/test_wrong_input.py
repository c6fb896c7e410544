"""Each mistake gets one clear message, at the place where it was made, and nothing is written."""

from pathlib import Path
from typing import Any

import pytest
from rest_framework.test import APIClient

from cortex.catalog.models import Model, Order
from tests.wrong_inputs import TABLE, damage


@pytest.mark.parametrize("mistake", TABLE)
@pytest.mark.parametrize("method", ["post", "put"])
def test_a_mistake_is_told_where_it_was_made(
    as_bob: APIClient, tiny: dict[str, Any], models_folder: Path, method: str, mistake: str
) -> None:
    damage(models_folder)
    wrong, pointer, words = TABLE[mistake]
    data = {**tiny, **wrong}
    path = "/api/v1/models" if method == "post" else f"/api/v1/models/{data['name']}"
    answer = getattr(as_bob, method)(path, data, format="json")
    assert (answer.status_code, answer["Content-Type"]) == (400, "application/problem+json")
    [problem] = answer.json()["errors"]
    assert problem["pointer"] == pointer
    assert words in problem["detail"]
    assert not Model.objects.exists()
    assert not Order.objects.exists()


def test_a_patch_that_makes_no_sense_leaves_the_model_as_it_was(as_bob: APIClient, tiny: dict[str, Any]) -> None:
    as_bob.put("/api/v1/models/tiny", tiny, format="json")
    for wrong in ({"engine": None}, {"source": {"path": "no.gguf"}}, {"name": "other"}, {"replicas": -1}):
        assert as_bob.patch("/api/v1/models/tiny", wrong, format="json").status_code == 400
    assert Model.objects.get().turn == 1


@pytest.mark.parametrize("body", ["[" * 100_000 + "]" * 100_000, '{"options":' * 5_000 + "1" + "}" * 5_000])
@pytest.mark.parametrize("kind", ["application/json", "application/merge-patch+json"])
def test_a_body_nested_without_end_is_the_senders_mistake(as_bob: APIClient, body: str, kind: str) -> None:
    answer = as_bob.patch("/api/v1/models/tiny", body, content_type=kind)
    assert (answer.status_code, answer.json()["code"]) == (400, "malformed")
    assert answer.json()["detail"] == "The body is nested too deeply."


def test_a_body_larger_than_rest_takes_is_refused_with_the_limit(as_bob: APIClient) -> None:
    answer = as_bob.put("/api/v1/models/tiny", '"' + "a" * 3_000_000 + '"', content_type="application/json")
    assert (answer.status_code, answer.json()["code"]) == (413, "too_large")
    assert "2,621,440 bytes" in answer.json()["detail"]


def test_the_detail_alone_says_which_field_is_wrong(as_bob: APIClient) -> None:
    answer = as_bob.put("/api/v1/models/tiny", {"context": 0}, format="json")
    detail = answer.json()["detail"]
    assert "/engine: This is required." in detail
    assert "/context: Input should be greater than or equal to 1" in detail


def test_a_list_is_not_lost_for_a_parameter_named_format(as_bob: APIClient) -> None:
    assert as_bob.get("/api/v1/models?format=xml").status_code == 200


@pytest.mark.django_db
def test_a_misspelt_dry_run_writes_nothing(as_bob: APIClient, tiny: dict[str, Any]) -> None:
    answer = as_bob.put("/api/v1/models/tiny?dryrun=true", tiny, format="json")
    assert answer.status_code == 400
    assert answer.json()["errors"][0]["pointer"] == "?dryrun"
    assert not Model.objects.exists()
