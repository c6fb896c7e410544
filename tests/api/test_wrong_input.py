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
