"""Everywhere the same: REST, the command line, the form and placement tell the same bytes of the same definition."""

import json
from pathlib import Path
from typing import Any

import pytest
from django.test import Client
from rest_framework.test import APIClient

from cortex.access.models import Person
from cortex.calculator.stacks import CONTEXT
from cortex.catalog.models import Model
from cortex.cli import estimating
from cortex.fleet import clock
from cortex.fleet.models import Gpu, Host
from cortex.orchestration import orders, seats, settle
from cortex.ui import panel
from tests.cli.conftest import Run
from tests.conftest import rest_client
from tests.weights import put_gguf, put_safetensors

GIB = 1 << 30
MIB = 1 << 20


@pytest.fixture
def card(transactional_db: None) -> Gpu:
    host = Host.objects.create(name="atlas", cores=8, memory=64 * GIB, seen_at=clock.now())
    return Gpu.objects.create(uuid="GPU-0", host=host, name="L40S", total=48 * GIB, used=4 * GIB)


@pytest.fixture(params=["llamacpp", "vllm"])
def definition(request: pytest.FixtureRequest, models_folder: Path) -> dict[str, Any]:
    if request.param == "llamacpp":
        return _definition("llamacpp", put_gguf(models_folder))
    return _definition("vllm", put_safetensors(models_folder), options={"gpu_memory_utilization": 0.5})


def _definition(engine: str, path: str, **more: Any) -> dict[str, Any]:
    return {"name": "one", "engine": engine, "source": {"path": path}, "context": 8192, "users": 4, **more}


def test_every_door_and_placement_tell_the_same_numbers(
    cortex: Run, bob: Person, card: Gpu, definition: dict[str, Any], tmp_path: Path
) -> None:
    rest = rest_client(bob).post("/api/v1/estimates", {"definition": definition}, format="json").json()
    (tmp_path / "one.json").write_text(json.dumps(definition))
    told = cortex("estimate", "-f", str(tmp_path / "one.json"), "-o", "json")
    assert told.exit_code == 0, told.output
    cli = json.loads(told.stdout)[0]
    dry = rest_client(bob).put("/api/v1/models/one?dry_run=true", definition, format="json").json()["estimate"]
    form = panel.of(definition).bars[0].forecast
    model, _ = orders.define({**definition, "desired": "running"}, None)
    settle.settle(model.id)
    replica = model.replica_set.get()
    assert seats.take(replica, 1) == ("GPU-0",)
    seat = replica.seats.get().bytes
    [rest_card] = rest["cards"]
    assert form.need
    assert rest["cards"] == cli["cards"] == dry["cards"]
    assert rest_card["claim"] == form.claim == seat > 4 * GIB
    assert rest_card["need"]["likely"] == form.need.likely
    assert (rest["verdict"], rest["longest_context"]) == (cli["verdict"], dry["longest_context"])
    named = rest_client(bob).post("/api/v1/estimates", {"model": "one"}, format="json").json()
    assert named["cards"] == rest["cards"], "its own seat counts as free"


def test_the_command_line_says_whether_it_fits_and_ends_so(cortex: Run, card: Gpu, models_folder: Path) -> None:
    big = {**_definition("llamacpp", put_gguf(models_folder)), "context": 131072, "users": 8}
    result = cortex("estimate", "-f", "-", input=json.dumps(big))
    assert result.exit_code == 5
    assert "✗ does not fit" in result.stdout
    assert "kv_cache" in result.stdout
    assert "It fits if: Shorten the context to" in result.stdout
    good = cortex("estimate", "-f", "-", input=json.dumps({**big, "context": 4096}))
    assert good.exit_code == 0
    assert "✓ fits" in good.stdout
    assert cortex("estimate").exit_code == 2
    assert cortex("estimate", "nobody").exit_code == 3


def test_a_stack_is_planned_from_bytes(cortex: Run, card: Gpu, models_folder: Path) -> None:
    path = put_safetensors(models_folder)
    both = [_definition("vllm", path) | {"name": name} for name in ("one", "two")]
    result = cortex("estimate", "--stack", "-", "-o", "json", input=json.dumps(both))
    plan = json.loads(result.stdout)
    assert (result.exit_code, plan["verdict"], len(plan["shares"])) == (0, "fits", 2)
    share = plan["shares"][0]
    assert share["patch"] == {"options": {"gpu_memory_utilization": share["fraction"]}}
    assert share["freed"] > 0
    assert plan["cards"][0]["left"] == 44 * GIB - plan["total"] - 2 * CONTEXT
    four = [_definition("vllm", path) | {"name": name} for name in ("a", "b", "c", "d")]
    full = cortex("estimate", "--stack", "-", input=json.dumps(four))
    assert full.exit_code == 5
    assert "No room for" in full.stdout
    assert "As set now" in full.stdout
    assert "no room" in full.stdout


def test_a_stack_spreads_over_imagined_cards(as_bob: APIClient, models_folder: Path) -> None:
    both = [_definition("llamacpp", put_gguf(models_folder)) | {"name": name, "gpus": 2} for name in ("one", "two")]
    host = {"cards": [{"name": "24 GiB", "total": 24 * GIB}] * 2}
    plan = as_bob.post("/api/v1/estimates/stack", {"definitions": both, "host": host}, format="json").json()
    assert plan["verdict"] == "fits"
    assert all(share["gpus"] == ["#0", "#1"] and sum(share["parts"]) == share["bytes"] for share in plan["shares"])
    assert [row["title"] for row in plan["scenarios"]][:2] == ["As set now", "Just what it needs"]


def test_a_stack_counts_the_hosts_own_memory(cortex: Run, card: Gpu, as_bob: APIClient, models_folder: Path) -> None:
    gguf = _definition("llamacpp", put_gguf(models_folder))
    both = [gguf | {"name": "chat", "gpus": 1}, gguf | {"name": "sparse", "gpus": 0}]
    asked: dict[str, Any] = {"definitions": both, "host": {"cards": [{"total": 24 * GIB}], "memory": 64 * GIB}}
    host = as_bob.post("/api/v1/estimates/stack", asked, format="json").json()["host"]
    assert [(part["name"], part["on_processor"]) for part in host["parts"]] == [("chat", False), ("sparse", True)]
    alone = as_bob.post("/api/v1/estimates", {"definition": both[1], "host": asked["host"]}, format="json").json()
    assert host["parts"][1]["bytes"] == alone["host"]["likely"] > host["parts"][0]["bytes"]
    assert (host["total"], host["memory"]) == (sum(part["bytes"] for part in host["parts"]), 64 * GIB)
    asked["host"]["memory"] = host["total"] - 1
    assert as_bob.post("/api/v1/estimates/stack", asked, format="json").json()["verdict"] == "does_not_fit"
    shown = cortex("estimate", "--stack", "-", input=json.dumps(both))
    assert "sparse runs on the processor and takes" in shown.stdout
    assert "of the host's own memory" in shown.stdout


def test_a_stack_without_a_card_is_one_of_the_processor(as_bob: APIClient, models_folder: Path) -> None:
    gguf = _definition("llamacpp", put_gguf(models_folder))
    asked: dict[str, Any] = {"definitions": [gguf | {"name": "a", "gpus": 0}], "host": {"memory": 64 * GIB}}
    plan = as_bob.post("/api/v1/estimates/stack", asked, format="json").json()
    assert (plan["verdict"], plan["scenarios"], plan["shares"]) == ("fits", [], [])
    asked["definitions"] = [gguf | {"name": "a", "gpus": 1}]
    assert as_bob.post("/api/v1/estimates/stack", asked, format="json").status_code == 400


def test_imagined_cards_answer_before_anything_is_bought(as_bob: APIClient, models_folder: Path) -> None:
    asked = {"definition": _definition("llamacpp", put_gguf(models_folder))}
    small = {**asked, "host": {"cards": [{"name": "8 GiB", "total": 8 * GIB}], "memory": 16 * GIB}}
    large = {**asked, "host": {"cards": [{"name": "24 GiB", "total": 24 * GIB}]}}
    assert as_bob.post("/api/v1/estimates", small, format="json").json()["verdict"] == "does_not_fit"
    answer = as_bob.post("/api/v1/estimates", large, format="json").json()
    assert answer["verdict"] == "fits"
    assert all(term["low"] <= term["likely"] <= term["high"] for term in answer["cards"][0]["need"]["terms"])
    assert all(term["reason"] for term in answer["cards"][0]["need"]["terms"])


def test_what_cannot_be_known_is_said_and_never_a_zero(as_bob: APIClient, card: Gpu) -> None:
    asked = {"definition": {"engine": "vllm", "source": {"repository": "some/where"}}}
    answer = as_bob.post("/api/v1/estimates", asked, format="json").json()
    assert (answer["verdict"], answer["host"], answer["disk"], answer["most_users"]) == ("unknown", None, None, None)
    assert "the hub does not answer" in answer["reason"]
    assert answer["remedy"]
    assert answer["cards"][0]["need"] is None


@pytest.mark.parametrize("asked", [{}, {"model": "a", "definition": {}}, {"model": "a", "cards": []}])
def test_a_question_that_makes_no_sense_is_refused(as_bob: APIClient, asked: dict[str, Any]) -> None:
    assert as_bob.post("/api/v1/estimates", asked, format="json").status_code == 400


def test_a_viewer_may_ask_and_a_stranger_may_not(as_charlie: APIClient, card: Gpu, models_folder: Path) -> None:
    asked = {"definition": _definition("llamacpp", put_gguf(models_folder))}
    assert as_charlie.post("/api/v1/estimates", asked, format="json").status_code == 200
    assert APIClient().post("/api/v1/estimates", asked, format="json").status_code == 401
    assert not Model.objects.exists()


def test_the_panel_echoes_the_revision_and_offers_fixes_as_fields(bob: Person, card: Gpu, models_folder: Path) -> None:
    client = Client()
    client.force_login(bob)
    form = {"engine": "llamacpp", "source.kind": "folder", "source.path": put_gguf(models_folder)}
    page = client.post("/define/estimate", {**form, "context": "131072", "users": "4", "revision": "7"})
    text = page.content.decode()
    assert 'data-revision="7"' in text
    assert 'data-verdict="does_not_fit"' in text
    assert "&quot;options.cache_type_k&quot;: &quot;q8_0&quot;" in text
    assert "style=" not in text
    unfinished = client.post("/define/estimate", {**form, "source.path": "", "revision": "8"}).content.decode()
    assert "Not estimated yet." in unfinished


def test_a_fix_is_one_line_that_names_what_it_sets_and_takes_away() -> None:
    patch = {"engine": "llamacpp", "source": {"path": "a.gguf"}, "image": None, "options": {"a": None, "layers": 3}}
    assert estimating._patch(patch) == "engine=llamacpp source.path=a.gguf image= a= layers=3"
