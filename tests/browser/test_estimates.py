"""The panel beside the form: it follows what is typed, and its buttons fill the form."""

import pytest
from playwright.sync_api import Page, expect

from cortex.access.models import Person
from tests import scene
from tests.browser.pages import sign_in
from tests.browser.test_looks import look

pytestmark = pytest.mark.browser


def test_the_panel_follows_the_form_and_its_buttons_fill_it(page: Page, admin: Person, weights: str) -> None:
    scene.whole_fleet(admin)
    sign_in(page, "alice", "alice's password")
    page.goto("/define")
    panel = page.locator("estimate-panel")
    page.get_by_label("File or folder").fill(f"{weights}.gguf")
    page.get_by_label("Context", exact=True).fill("8192")
    page.get_by_label("Users", exact=True).fill("2")
    expect(panel.locator("[data-verdict='fits']")).to_be_visible()
    expect(panel).to_contain_text("Fits")
    look(page, "estimate-fits")
    page.set_viewport_size({"width": 1280, "height": 860})
    page.get_by_label("Context", exact=True).fill("131072")
    page.get_by_label("Users", exact=True).fill("4")
    expect(panel.locator("[data-verdict='does_not_fit']")).to_be_visible()
    expect(panel).to_contain_text("Does not fit")
    look(page, "estimate-too-large")
    page.set_viewport_size({"width": 1280, "height": 860})
    panel.get_by_role("button", name="Shorten the context").click()
    assert page.get_by_label("Context", exact=True).input_value() != "131072"
    expect(panel.locator("[data-verdict='fits'], [data-verdict='tight']")).to_be_visible()


def test_a_late_answer_to_an_earlier_question_is_dropped(page: Page, admin: Person, weights: str) -> None:
    scene.whole_fleet(admin)
    sign_in(page, "alice", "alice's password")
    page.goto("/define")
    panel = page.locator("estimate-panel")
    page.get_by_label("File or folder").fill(f"{weights}.gguf")
    page.get_by_label("Context", exact=True).fill("8192")
    expect(panel.locator("[data-revision]")).to_be_visible()
    shown = panel.locator("[data-revision]").get_attribute("data-revision")
    page.evaluate(
        """(text) => document.querySelector("estimate-panel").show(text)""",
        '<div class="estimate" data-revision="0"><p>from the past</p></div>',
    )
    expect(panel.locator("[data-revision]")).to_have_attribute("data-revision", str(shown))
    expect(panel).not_to_contain_text("from the past")
