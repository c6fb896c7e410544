"""Hosts and strays over REST: who may say what of them, and what each answer tells."""

from datetime import timedelta

import pytest
from rest_framework.test import APIClient

from cortex.catalog.models import Model, Order
from cortex.fleet import clock
from cortex.fleet.models import Attempt, Gpu, Host, Replica, Seat, Stray
from cortex.orchestration import tasks
from tests import scene

ATLAS = "/api/v1/hosts/atlas"


@pytest.fixture
def swept(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The hosts that were asked to look at everything."""
    queues: list[str] = []
    monkeypatch.setattr(tasks.sweep_host, "apply_async", lambda args, queue, **more: queues.append(queue))
    return queues


def silent_fleet() -> Host:
    scene.whole_fleet()
    Host.objects.update(seen_at=clock.now() - timedelta(hours=1))
    return Host.objects.get()


def stray(host: Host) -> Stray:
    return Stray.objects.create(
        host=host, container_id="c" * 64, name="cortex-1-2", model_name="gone", first_seen_at=clock.now()
    )


def test_a_host_tells_what_it_is_and_holds(as_charlie: APIClient) -> None:
    stray(scene.whole_fleet())
    told = as_charlie.get(ATLAS).json()
    assert (told["answering"], told["gpus"], told["replicas"], told["strays"]) == (True, 2, 7, 2)
    assert as_charlie.get("/api/v1/hosts").json()["items"] == [told]


def test_an_operator_labels_and_cordons_a_host(as_bob: APIClient) -> None:
    scene.host()
    patch = {"labels": {"zone": "attic"}, "cordoned": True}
    told = as_bob.patch(ATLAS, patch, format="json").json()
    assert (told["labels"], told["cordoned"]) == ({"zone": "attic"}, True)
    as_bob.patch(ATLAS, {"labels": {"zone": None}, "cordoned": None}, format="json")
    assert (Host.objects.get().labels, Host.objects.get().cordoned) == ({}, False)
    told = as_bob.get(f"{ATLAS}/orders").json()["items"]
    assert [(order["verb"], order["by"]) for order in told] == [("uncordon", "bob"), ("cordon", "bob")]


def test_an_operator_drains_a_host_and_is_told_who_stays_and_why(as_bob: APIClient, as_charlie: APIClient) -> None:
    scene.whole_fleet()
    Model.objects.filter(name="bge-m3").update(placement={"hosts": ["atlas"]})
    assert as_bob.get(ATLAS).json()["drain"] is None
    told = as_bob.patch(ATLAS, {"draining": True}, format="json").json()
    assert (told["draining"], told["cordoned"]) == (True, False)
    assert (told["drain"]["left"], told["drain"]["total"]) == (0, 5)
    staying = {each["replica"]: each for each in told["drain"]["staying"]}
    assert staying["bge-m3/0"]["pinned"]
    assert "pinned to this host" in staying["bge-m3/0"]["reason"]
    assert staying["qwen3-30b-a3b/1"]["reason"] == "It waits for its turn: one leaves at a time."
    Replica.objects.filter(model__name="qwen3-30b-a3b", slot=1).update(host=None, observed="absent")
    Seat.objects.filter(replica__host=None).delete()
    Attempt.objects.filter(replica__host=None).delete()
    assert as_charlie.get(ATLAS).json()["drain"]["left"] == 1
    [order] = as_bob.get(f"{ATLAS}/orders").json()["items"]
    assert (order["verb"], order["by"], len(order["changes"]["replicas"])) == ("drain", "bob", 5)


@pytest.mark.parametrize(("patch", "verb"), [({"draining": False}, "undrain"), ({"cordoned": False}, "uncordon")])
def test_a_drain_is_called_off_by_either_word(as_bob: APIClient, patch: dict[str, bool], verb: str) -> None:
    scene.host()
    as_bob.patch(ATLAS, {"draining": True, "cordoned": True}, format="json")
    told = as_bob.patch(ATLAS, patch, format="json").json()
    assert (told["draining"], told["drain"], told["cordoned"]) == (False, None, verb == "undrain")
    assert as_bob.get(f"{ATLAS}/orders").json()["items"][0]["verb"] == verb


@pytest.mark.django_db(transaction=True)
def test_the_host_that_is_drained_is_asked_to_look_at_once(as_bob: APIClient, swept: list[str]) -> None:
    scene.host()
    as_bob.patch(ATLAS, {"draining": True}, format="json")
    as_bob.patch(ATLAS, {"draining": True}, format="json")
    assert swept == ["host.atlas"]


def test_a_model_that_only_moves_is_settled(as_bob: APIClient) -> None:
    """Who waits for an order of it does not wait for a drain."""
    row = Model.objects.create(name="m", engine="llamacpp", path="m.gguf", desired="running", turn=3)
    old = Replica.objects.create(model=row, slot=0, host=scene.host(), observed="ready", turn=3)
    attempt = Attempt.objects.create(
        replica=old, number=1, turn=3, confirmed_turn=3, image="i", queued_at=clock.now(), ready_at=clock.now()
    )
    Replica.objects.create(model=row, slot=0, replaces=old, turn=3, reason="Waits for room.")
    status = as_bob.get("/api/v1/models/m").json()["status"]
    assert status["settled"]
    assert "Waits for room." in status["reason"]
    Attempt.objects.filter(id=attempt.id).update(turn=2, confirmed_turn=2)
    assert not as_bob.get("/api/v1/models/m").json()["status"]["settled"]


def test_what_is_wrong_is_a_problem_with_its_pointer(as_bob: APIClient) -> None:
    scene.host()
    problem = as_bob.patch(ATLAS, {"labels": {"Zone!": "x"}}, format="json").json()
    assert (problem["status"], problem["errors"][0]["pointer"]) == (400, "/labels")
    problem = as_bob.patch(ATLAS, {"draining": "soon"}, format="json").json()
    assert (problem["status"], problem["errors"][0]["pointer"]) == (400, "/draining")
    assert as_bob.patch(f"{ATLAS}?dry_run=1", {}, format="json").json()["errors"][0]["pointer"] == "?dry_run"


@pytest.mark.parametrize("method", ["get", "patch", "delete"])
def test_a_host_that_is_not_there_is_named(as_bob: APIClient, method: str) -> None:
    problem = getattr(as_bob, method)("/api/v1/hosts/nowhere", format="json").json()
    assert (problem["code"], problem["detail"]) == ("no_such_host", "There is no host named 'nowhere'.")


def test_a_host_that_answers_is_not_forgotten(as_alice: APIClient) -> None:
    scene.host()
    answer = as_alice.delete(f"{ATLAS}?force=1")
    assert (answer.status_code, answer.json()["code"]) == (409, "conflict")
    assert "Stop its agent" in answer.json()["detail"]


def test_a_silent_host_with_replicas_is_forgotten_by_an_administrator_s_force_alone(
    as_bob: APIClient, as_alice: APIClient
) -> None:
    silent_fleet()
    refused = as_bob.delete(ATLAS).json()
    assert refused["status"] == 409
    assert "qwen3-30b-a3b/0" in refused["detail"]
    assert as_bob.delete(f"{ATLAS}?force=1").status_code == 403
    assert as_alice.delete(ATLAS).status_code == 409
    assert Host.objects.exists()
    assert as_alice.delete(f"{ATLAS}?force=1").json()["name"] == "atlas"
    assert not Host.objects.exists()
    assert not Gpu.objects.exists()
    assert as_bob.get(f"{ATLAS}/orders").json()["items"][0]["verb"] == "forget"


def test_a_stray_is_listed_and_goes_by_an_operator_s_word(as_bob: APIClient, swept: list[str]) -> None:
    found = stray(scene.host())
    [told] = as_bob.get("/api/v1/strays").json()["items"]
    assert (told["container"], told["host"], told["model"], told["confirmed"]) == ("cortex-1-2", "atlas", "gone", False)
    assert told["removed_after"] > told["first_seen_at"]
    assert as_bob.post(f"/api/v1/strays/{found.id}/confirm").json()["confirmed"]


@pytest.mark.django_db(transaction=True)
def test_the_host_of_a_stray_is_asked_to_look_at_once(as_bob: APIClient, swept: list[str]) -> None:
    found = stray(scene.host())
    as_bob.post(f"/api/v1/strays/{found.id}/confirm")
    assert swept == ["host.atlas"]


@pytest.mark.parametrize("id", [9, 10**30])
def test_a_stray_that_is_gone_is_said_so(as_bob: APIClient, id: int) -> None:
    assert as_bob.post(f"/api/v1/strays/{id}/confirm").status_code == 404


def test_a_viewer_changes_nothing_about_hosts(as_charlie: APIClient) -> None:
    found = stray(silent_fleet())
    refused = [
        as_charlie.patch(ATLAS, {"cordoned": True}, format="json"),
        as_charlie.patch(ATLAS, {"draining": True}, format="json"),
        as_charlie.delete(ATLAS),
        as_charlie.delete(f"{ATLAS}?force=1"),
        as_charlie.post(f"/api/v1/strays/{found.id}/confirm"),
    ]
    assert {answer.status_code for answer in refused} == {403}
    assert not Order.objects.exclude(host_name="").exists()
    assert not Host.objects.get().closed


def test_an_order_about_a_host_is_no_operation_to_wait_on(as_bob: APIClient) -> None:
    scene.host()
    as_bob.patch(ATLAS, {"cordoned": True}, format="json")
    assert as_bob.get(f"/api/v1/operations/{Order.objects.get().id}").status_code == 404
