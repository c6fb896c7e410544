"""The stack plan in a real browser: it follows the boxes that are ticked, and leads to the form."""

import pytest
from playwright.sync_api import Page, expect

from cortex.access.models import Person
from cortex.catalog.models import Model
from tests import scene
from tests.browser.pages import sign_in
from tests.browser.test_looks import look

pytestmark = pytest.mark.browser


@pytest.fixture
def plan(page: Page, admin: Person, weights: str) -> Page:
    """The plan of one model under each engine, on two cards."""
    scene.host()
    scene.model("small", path=f"{weights}.gguf", users=2)
    scene.model("greedy", engine="vllm", path=weights, users=4)
    sign_in(page, "alice", "alice's password")
    page.get_by_role("link", name="Stack plan").click()
    return page


def test_it_follows_the_boxes_and_the_focus_stays(plan: Page) -> None:
    expect(plan.get_by_role("status").first).to_contain_text("All 2 together take")
    look(plan, "plan")
    plan.set_viewport_size({"width": 1280, "height": 860})
    box = plan.get_by_role("checkbox", name="small")
    box.focus()
    plan.keyboard.press("Space")
    expect(plan.get_by_role("status").first).to_contain_text("All 1 together take")
    expect(box).to_be_focused()
    expect(plan).to_have_url("/plan?asked=1&host=atlas&cards=4&gib=80&model=greedy")
    plan.reload()
    expect(box).not_to_be_checked()


def test_other_cards_are_tried_and_what_is_wrong_is_said(plan: Page) -> None:
    plan.get_by_label("On the cards of").select_option(label="Other cards …")
    plan.get_by_label("How many").fill("1")
    plan.get_by_label("GiB each").fill("16")
    plan.keyboard.press("Tab")
    expect(plan.locator("#plan")).to_contain_text("No room for 1")
    plan.get_by_label("How many").fill("99")
    plan.keyboard.press("Tab")
    expect(plan.get_by_role("alert").filter(has_text="less than or equal to 16")).to_be_visible()


def test_a_change_is_looked_at_in_the_form_and_saved_there(plan: Page) -> None:
    plan.get_by_role("link", name="Look at the change of greedy").click()
    expect(plan.locator("#filled")).to_contain_text("Nothing changes before you save")
    share = plan.get_by_label("Share of GPU memory").input_value()
    expect(plan.locator("#filled")).to_contain_text(f"Share of GPU memory: 0.9 → {share}")
    expect(plan.locator("estimate-panel")).to_contain_text(f"It claims {float(share):.0%}")
    assert Model.objects.get(name="greedy").options == {}
    plan.get_by_role("button", name="Save", exact=True).click()
    expect(plan).to_have_url("/models/greedy")
    assert Model.objects.get(name="greedy").options == {"gpu_memory_utilization": float(share)}
