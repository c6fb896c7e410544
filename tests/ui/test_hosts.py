"""The hosts' page: what may be done there, by whom, and what is said of it first."""

import json
from datetime import timedelta

import pytest
from django.test import Client

from cortex.access.models import Person
from cortex.catalog.models import Model, Order
from cortex.fleet import clock
from cortex.fleet.models import Host, Replica, Stray
from cortex.orchestration import tasks
from tests import scene
from tests.ui.conftest import SignIn

HTMX = {"HX-Request": "true", "HX-Current-URL": "http://testserver/hosts"}


@pytest.fixture(autouse=True)
def unpoked(monkeypatch: pytest.MonkeyPatch) -> None:
    for task in (tasks.settle_model, tasks.sweep_host):
        monkeypatch.setattr(task, "apply_async", lambda args, **more: None)


@pytest.fixture
def fleet(db: None) -> Host:
    return scene.whole_fleet()


@pytest.fixture
def bobs(at: SignIn, bob: Person) -> Client:
    return at(bob)


def silence() -> None:
    Host.objects.update(seen_at=clock.now() - timedelta(hours=1))


def stray(host: Host, **more: object) -> Stray:
    row = {"container_id": "c" * 64, "name": "cortex-1-2", "model_name": "gone", "first_seen_at": clock.now(), **more}
    return Stray.objects.create(host=host, **row)


def test_a_host_is_cordoned_and_taken_back(bobs: Client, fleet: Host) -> None:
    assert b"Nothing new is placed on it" in bobs.get("/hosts/atlas/cordon", headers=HTMX).content
    assert not Host.objects.get().cordoned
    answer = bobs.post("/hosts/atlas/cordon", headers=HTMX)
    assert (answer.status_code, "takes nothing new" in answer["HX-Trigger"]) == (204, True)
    page = bobs.get("/hosts").content.decode()
    assert "Cordoned" in page
    assert "/hosts/atlas/uncordon" in page
    bobs.post("/hosts/atlas/uncordon")
    assert not Host.objects.get().cordoned


def test_a_host_is_drained_with_its_progress_and_called_off(bobs: Client, fleet: Host) -> None:
    Model.objects.filter(name="bge-m3").update(placement={"hosts": ["atlas"]})
    asked = bobs.get("/hosts/atlas/drain", headers=HTMX).content.decode()
    assert "It holds 5 replicas. bge-m3/0 may run nowhere else, and will stay." in asked
    assert "one replica at a time" in asked
    assert not Host.objects.get().draining
    answer = bobs.post("/hosts/atlas/drain", headers=HTMX)
    assert (answer.status_code, "moves elsewhere" in answer["HX-Trigger"]) == (204, True)
    page = bobs.get("/hosts").content.decode()
    assert "Draining" in page
    assert "0 of 5 have left" in page
    assert 'max="5" value="0"' in page
    assert "It waits for its turn" in page
    assert '<span class="scope">pinned</span>' in page
    bobs.post("/hosts/atlas/undrain")
    assert not Host.objects.get().draining
    assert "of 5 have left" not in bobs.get("/hosts").content.decode()
    assert [order.verb for order in Order.objects.filter(host_name="atlas")] == ["undrain", "drain"]


def test_an_empty_host_says_so(bobs: Client) -> None:
    scene.host()
    assert b"It holds nothing." in bobs.get("/hosts/atlas/drain").content
    bobs.post("/hosts/atlas/drain")
    page = bobs.get("/hosts").content.decode()
    assert "Nothing is left here" in page
    assert "<progress" not in page


def test_labels_are_written_one_a_line(bobs: Client, fleet: Host) -> None:
    bobs.post("/hosts/atlas/labels", {"labels": "zone = cellar\n\nrack=1\n"})
    assert Host.objects.get().labels == {"zone": "cellar", "rack": "1"}
    assert b"zone=cellar" in bobs.get("/hosts").content
    assert b"rack=1\nzone=cellar" in bobs.get("/hosts/atlas/labels").content
    bobs.post("/hosts/atlas/labels", {"labels": "rack=1"})
    assert Host.objects.get().labels == {"rack": "1"}


def test_a_wrong_label_is_told_in_its_dialog(bobs: Client, fleet: Host) -> None:
    answer = bobs.post("/hosts/atlas/labels", {"labels": "Zone=x"}, headers=HTMX)
    assert (answer.status_code, answer["HX-Retarget"]) == (422, "#dialogs")
    assert "is no label" in answer.content.decode()
    assert "Zone=x</textarea>" in answer.content.decode()


def test_a_host_that_answers_is_not_forgotten(at: SignIn, alice: Person, fleet: Host) -> None:
    assert b"/hosts/atlas/forget" not in at(alice).get("/hosts").content
    answer = at(alice).post("/hosts/atlas/forget", headers=HTMX)
    assert answer.status_code == 409
    assert json.loads(answer["HX-Trigger"])["cortex:toast"]["error"]
    assert Host.objects.exists()


def test_a_host_that_holds_replicas_is_an_administrator_s_to_forget(
    at: SignIn, bobs: Client, alice: Person, fleet: Host
) -> None:
    silence()
    alices = at(alice)
    assert b"/hosts/atlas/forget" not in bobs.get("/hosts").content
    assert bobs.post("/hosts/atlas/forget").status_code == 403
    asked = alices.get("/hosts/atlas/forget").content.decode()
    assert "bge-m3/0" in asked
    assert "listed as strays" in asked
    assert alices.post("/hosts/atlas/forget").status_code == 302
    assert not Host.objects.exists()
    assert b"atlas is forgotten." in alices.get("/hosts").content


def test_a_silent_host_that_holds_nothing_is_an_operator_s_to_forget(bobs: Client) -> None:
    scene.host()
    silence()
    assert b"/hosts/atlas/forget" in bobs.get("/hosts").content
    bobs.post("/hosts/atlas/forget")
    assert not Host.objects.exists()


def test_a_stray_is_told_with_its_grace_and_removed_by_a_word(bobs: Client, fleet: Host) -> None:
    left = stray(fleet)
    page = bobs.get("/hosts").content.decode()
    assert "cortex-1-2" in page
    assert "goes after" in page
    assert b"by its label" in bobs.get(f"/strays/{left.id}/remove").content
    bobs.post(f"/strays/{left.id}/remove")
    assert Stray.objects.get(name="cortex-1-2").confirmed
    assert "at the host&#x27;s next look" in bobs.get("/hosts").content.decode().replace("'", "&#x27;")
    assert Order.objects.get(host_name="atlas").verb == "remove stray"


def test_a_stray_past_its_grace_waits_for_a_word(bobs: Client, fleet: Host) -> None:
    stray(fleet, first_seen_at=clock.now() - timedelta(hours=1))
    assert b"stays until somebody says that it may go" in bobs.get("/hosts").content


@pytest.mark.parametrize(
    "path",
    [f"hosts/atlas/{word}" for word in ("cordon", "uncordon", "drain", "undrain", "labels", "forget")],
)
def test_a_viewer_looks_and_changes_nothing(at: SignIn, charlie: Person, fleet: Host, path: str) -> None:
    stray(fleet)
    silence()
    page = at(charlie).get("/hosts").content.decode()
    assert "cortex-1-2" in page
    assert path not in page
    assert "/strays/" not in page
    assert at(charlie).post(f"/{path}").status_code == 403
    assert at(charlie).post(f"/strays/{Stray.objects.get(name='cortex-1-2').id}/remove").status_code == 403
    assert not Order.objects.exclude(host_name="").exists()


@pytest.mark.parametrize(
    "path",
    ["hosts/nowhere/cordon", "hosts/nowhere/drain", "hosts/nowhere/labels", "hosts/nowhere/forget", "strays/9/remove"],
)
def test_what_is_not_there_is_said(bobs: Client, path: str) -> None:
    assert bobs.get(f"/{path}").status_code == 404
    assert bobs.post(f"/{path}").status_code == 404


def test_the_page_takes_the_same_number_of_queries_for_many_hosts(
    bobs: Client, fleet: Host, django_assert_max_num_queries: object
) -> None:
    for number in range(20):
        stray(Host.objects.create(name=f"more-{number}"), container_id=f"{number}")
    with django_assert_max_num_queries(10):  # type: ignore[operator]
        bobs.get("/hosts", headers=HTMX)


def test_a_model_has_one_colour_on_all_cards_of_a_host(at: SignIn, bob: Person) -> None:
    atlas = scene.whole_fleet()
    second = atlas.gpus.get(index=1)
    scene.seat(Replica.objects.get(model__name="bge-m3"), second, scene.GIB)
    cards = at(bob).get("/hosts").context["hosts"][0].cards
    kinds = [{segment.label: segment.kind for segment in card.segments} for card in cards]
    assert kinds[0]["bge-m3"] == kinds[1]["bge-m3"]
    assert kinds[0]["bge-m3"] != kinds[0]["qwen3-30b-a3b"]
