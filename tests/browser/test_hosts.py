"""Hosts in a real browser: dialogs that say what they mean, a page that follows, chips that fill the form."""

import os
from pathlib import Path

import pytest
from playwright.sync_api import Page, expect

from cortex.access.models import Person
from cortex.fleet.models import Host, Replica, Stray
from tests import scene
from tests.browser.pages import confirm, sign_in

pytestmark = pytest.mark.browser

SHOTS = os.environ.get("CORTEX_SCREENSHOTS")


@pytest.fixture
def hosts(page: Page, admin: Person) -> Page:
    """The page of a host with two cards and a stray."""
    scene.whole_fleet(admin)
    sign_in(page, "alice", "alice's password")
    page.goto("/hosts")
    return page


def shot(page: Page, name: str) -> None:
    if SHOTS:
        page.wait_for_timeout(300)
        page.screenshot(path=Path(SHOTS) / f"{name}.png")


def test_a_host_is_cordoned_labelled_and_cleared_of_a_stray_without_a_reload(hosts: Page) -> None:
    hosts.evaluate("window.mark = 1")
    hosts.get_by_role("link", name="Cordon atlas").click()
    expect(hosts.get_by_role("dialog")).to_contain_text("What runs there stays")
    shot(hosts, "cordon-dialog")
    confirm(hosts, "Cordon it")
    expect(hosts.get_by_text("Cordoned")).to_be_visible()
    hosts.get_by_role("link", name="Labels of atlas").click()
    hosts.get_by_label("One a line").fill("Zone!=x")
    hosts.get_by_role("dialog").get_by_role("button", name="Save").click()
    expect(hosts.get_by_role("dialog")).to_contain_text("is no label")
    shot(hosts, "labels-wrong")
    hosts.get_by_label("One a line").fill("zone=attic")
    confirm(hosts, "Save")
    expect(hosts.get_by_text("zone=attic")).to_be_visible()
    hosts.get_by_role("link", name="Remove cortex-5f1c0a7e").click()
    confirm(hosts, "Remove it")
    expect(hosts.get_by_text("goes at the host's next look")).to_be_visible()
    hosts.get_by_role("button", name="Uncordon atlas").click()
    expect(hosts.get_by_text("Cordoned")).to_have_count(0)
    shot(hosts, "hosts-after")
    assert hosts.evaluate("window.mark") == 1
    assert (Host.objects.get().labels, Stray.objects.get().confirmed) == ({"zone": "attic"}, True)


def test_a_drain_is_asked_told_and_followed_without_a_reload(hosts: Page) -> None:
    hosts.evaluate("window.mark = 1")
    hosts.get_by_role("link", name="Drain atlas").click()
    expect(hosts.get_by_role("dialog")).to_contain_text("moves elsewhere")
    shot(hosts, "drain-dialog")
    confirm(hosts, "Drain it")
    expect(hosts.get_by_role("status").filter(has_text="0 of 5 have left")).to_be_visible()
    shot(hosts, "draining")
    Replica.objects.filter(model__name="bge-m3").update(called_off=True)
    expect(hosts.get_by_text("It answers what it was asked, and stops.")).to_be_visible()
    hosts.get_by_role("button", name="End the drain of atlas").click()
    expect(hosts.get_by_text("Draining")).to_have_count(0)
    assert hosts.evaluate("window.mark") == 1
    assert not Host.objects.get().draining


def test_chips_name_the_cards_there_are_and_add_each_once(hosts: Page) -> None:
    hosts.goto("/define")
    hosts.get_by_text("Where it may run").click()
    chip = hosts.get_by_role("button", name="atlas · GPU 1 · NVIDIA L40S")
    chip.click()
    chip.click()
    field = hosts.get_by_label("Only these GPUs")
    expect(field).to_have_value("GPU-5f1c1a7e-90d2-4b1e-8c33-1f0a6b7d2e41")
    hosts.get_by_role("button", name="zone=cellar").click()
    expect(hosts.get_by_label("Only hosts labelled")).to_have_value("zone=cellar")
    shot(hosts, "chips")
