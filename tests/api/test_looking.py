"""Hosts, cards, engines, files, keys, health."""

import time
from typing import Any

import pytest
from django.db import OperationalError
from rest_framework.test import APIClient

from cortex.access.models import ApiKey, Person
from cortex.catalog.models import Model
from cortex.fleet.models import Replica, Seat
from engines import all_engines
from tests import scene
from tests.api import rows


def items(client: APIClient, path: str) -> list[dict[str, Any]]:
    answer = client.get(f"/api/v1/{path}").json()
    assert answer["next"] is None
    found: list[dict[str, Any]] = answer["items"]
    return found


def test_a_host_that_was_not_seen_lately_does_not_answer(as_charlie: APIClient) -> None:
    rows.host()
    assert [(host["name"], host["answering"], host["memory"]) for host in items(as_charlie, "hosts")] == [
        ("test", False, 8 * rows.GIB)
    ]


def test_a_card_names_the_models_on_it(as_charlie: APIClient, tiny: dict[str, Any], as_bob: APIClient) -> None:
    as_bob.put("/api/v1/models/tiny", {**tiny, "desired": "running"}, format="json")
    card = rows.card()
    replica = rows.replica(Model.objects.get())
    Seat.objects.create(replica=replica, gpu=card, bytes=rows.GIB)
    [shown] = items(as_charlie, "gpus")
    assert (shown["uuid"], shown["models"], shown["free"]) == ("GPU-1", ["tiny"], 23 * rows.GIB)
    [seat] = as_charlie.get("/api/v1/models/tiny").json()["status"]["replicas"][0]["gpus"]
    assert seat == {"gpu": "GPU-1", "index": 0, "name": "Imaginary", "bytes": rows.GIB}


def test_engines_say_what_they_take(as_charlie: APIClient) -> None:
    assert [kind["name"] for kind in items(as_charlie, "engines")] == sorted(all_engines())
    schema = as_charlie.get("/api/v1/engines/llamacpp/schema").json()
    assert schema["additionalProperties"] is False
    assert "n_gpu_layers" in schema["properties"]
    assert "llamacpp" in as_charlie.get("/api/v1/engines/nine/schema").json()["detail"]


def test_files_are_what_a_source_may_name(as_charlie: APIClient, tiny: dict[str, Any]) -> None:
    assert items(as_charlie, "files") == [{"path": "tiny.gguf"}]


def test_a_key_is_shown_once_and_opens_the_door(as_charlie: APIClient) -> None:
    made = as_charlie.post("/api/v1/keys", {"name": "laptop", "scopes": ["manage"]}, format="json")
    assert made.status_code == 201
    assert APIClient().get("/api/v1/models", HTTP_AUTHORIZATION=f"Bearer {made.json()['secret']}").status_code == 200
    listed = as_charlie.get("/api/v1/keys").json()["items"]
    assert listed[0]["name"] == "laptop"
    assert "secret" not in listed[0]
    assert "digest" not in listed[0]


def test_people_see_and_revoke_their_own_keys_alone(as_charlie: APIClient, as_bob: APIClient, bob: Person) -> None:
    key, _ = ApiKey.objects.issue(bob, "bob's", ["infer"])
    assert {item["owner"] for item in as_charlie.get("/api/v1/keys").json()["items"]} == {"charlie"}
    assert as_charlie.delete(f"/api/v1/keys/{key.id}").status_code == 404
    assert as_bob.delete(f"/api/v1/keys/{key.id}").json()["revoked_at"] is not None
    assert as_bob.delete(f"/api/v1/keys/{10**40}").status_code == 404


def test_only_administrators_issue_keys_for_others(as_bob: APIClient, as_alice: APIClient, charlie: Person) -> None:
    wish = {"name": "for charlie", "owner": "charlie"}
    assert as_bob.post("/api/v1/keys", wish, format="json").status_code == 403
    assert as_alice.post("/api/v1/keys", wish, format="json").json()["owner"] == "charlie"
    unknown = as_alice.post("/api/v1/keys", {**wish, "owner": "dora"}, format="json")
    assert unknown.json()["errors"][0]["pointer"] == "/owner"
    assert len(as_alice.get("/api/v1/keys").json()["items"]) == 3


@pytest.mark.parametrize("wish", [{}, {"name": ""}, {"name": "x", "scopes": ["all"]}, {"name": "x", "role": "admin"}])
def test_a_key_request_that_makes_no_sense_is_refused(as_bob: APIClient, wish: dict[str, Any]) -> None:
    answer = as_bob.post("/api/v1/keys", wish, format="json")
    assert answer.status_code == 400
    assert answer.json()["errors"]


@pytest.mark.django_db
def test_health_is_open_and_a_silent_broker_fails_nothing() -> None:
    begun = time.monotonic()
    answer = APIClient().get("/api/v1/health")
    assert time.monotonic() - begun < 2
    assert (answer.status_code, answer.json()["ready"]) == (200, True)
    assert answer.json()["checks"]["broker"]["ok"] is False


@pytest.mark.django_db
def test_health_with_a_broker(broker: str) -> None:
    assert APIClient().get("/api/v1/health").json()["checks"]["broker"]["ok"] is True


def test_health_without_a_database_is_unready_and_alive(monkeypatch: pytest.MonkeyPatch) -> None:
    class Down:
        def cursor(self) -> None:
            raise OperationalError("connection refused: secret-host")

    monkeypatch.setattr("cortex.api.views.health.connection", Down())
    answer = APIClient().get("/api/v1/health")
    assert (answer.status_code, answer.json()["ready"]) == (503, False)
    assert "secret-host" not in answer.content.decode()
    assert APIClient().get("/api/v1/health/live").json() == {"live": True}


def test_a_replica_tells_who_is_in_its_way_and_what_began_its_failures(as_charlie: APIClient) -> None:
    scene.whole_fleet()
    Replica.objects.filter(model__name="llama-3.3-70b").update(in_the_way=["bge-m3/0"])
    [told] = as_charlie.get("/api/v1/models/llama-3.3-70b").json()["status"]["replicas"]
    assert told["in_the_way"] == ["bge-m3/0"]
    assert (told["attempt"]["number"], told["first_failure"]["number"]) == (3, 1)
    serving = as_charlie.get("/api/v1/models/qwen3-30b-a3b").json()["status"]["replicas"][0]
    assert serving["first_failure"] is None
    assert serving["attempt"]["weights_loaded_at"] < serving["attempt"]["cache_sized_at"]
    assert serving["attempt"]["first_token_at"] > serving["attempt"]["ready_at"]
