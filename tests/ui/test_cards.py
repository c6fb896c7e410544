"""Cards go by their numbers wherever people read of them."""

from django.test import Client

from cortex.access.models import Person
from cortex.fleet.models import Gpu, Host
from cortex.fleet.states import Observed
from cortex.ui.cards import names, numbered
from tests import scene
from tests.ui.conftest import SignIn


def test_a_reason_names_cards_by_number_on_the_list_and_on_the_page(at: SignIn, bob: Person) -> None:
    atlas = scene.whole_fleet()
    card = atlas.gpus.get(index=1)
    large = scene.model("large")
    scene.replica(large, atlas, Observed.ABSENT, f"Waits for room. {card.name} ({card.uuid}) has only 48.0 GiB.")
    bobs: Client = at(bob)
    assert "Waits for room. GPU 1 has only 48.0 GiB." in bobs.get("/").content.decode()
    page = bobs.get("/models/large").content.decode()
    assert page.count("Waits for room. GPU 1 has only 48.0 GiB.") == 2
    assert card.uuid not in page


def test_where_there_are_several_hosts_the_number_says_whose(db: None) -> None:
    scene.host()
    Gpu.objects.create(uuid="GPU-2", host=Host.objects.create(name="boreas"), index=0, name="L4", total=1)
    assert numbered("L4 (GPU-2) is gone.", names()) == "GPU 0 of boreas is gone."


def test_a_name_that_begins_another_is_not_taken_for_it() -> None:
    told = {"L40S GPU-1": "GPU 1", "L40S GPU-10": "GPU 10"}
    assert numbered("on L40S GPU-10: one launch at a time", told) == "on GPU 10: one launch at a time"
