"""What people do, in a real browser: the way in, the list that lives, the form, the dialogs, the keyboard."""

import pytest
from playwright.sync_api import BrowserContext, Page, expect

from cortex.access import setup
from cortex.access.models import Person
from cortex.catalog.models import Model
from cortex.fleet.models import Replica
from cortex.fleet.states import Observed
from tests import scene
from tests.browser.pages import confirm, row, set_up, sign_in

pytestmark = pytest.mark.browser


@pytest.fixture
def fleet(page: Page, admin: Person) -> Page:
    """The list, with one model of each kind."""
    scene.whole_fleet(admin)
    sign_in(page, "alice", "alice's password")
    return page


def test_the_setup_link_makes_the_first_administrator(page: Page, context: BrowserContext) -> None:
    set_up(page, f"/setup?token={setup.new_token()}", "alice", "correct horse battery")
    expect(page.get_by_role("link", name="Define the first model")).to_be_visible()
    assert Person.objects.get().may_change_access()


def test_the_list_follows_the_fleet_without_a_reload_and_keeps_the_focus(fleet: Page) -> None:
    link = row(fleet, "gemma-3-12b").get_by_role("link", name="gemma-3-12b", exact=True)
    link.focus()
    fleet.evaluate("window.mark = 1")
    Replica.objects.get(model__name="gemma-3-12b").observe(Observed.READY, "Answers.")
    expect(row(fleet, "gemma-3-12b").get_by_text("Serving")).to_be_visible()
    expect(link).to_be_focused()
    assert fleet.evaluate("window.mark") == 1


def test_a_list_that_did_not_change_is_not_sent_again(fleet: Page) -> None:
    with fleet.expect_response(lambda answer: answer.status == 200 and answer.url.endswith("/?q=")):
        pass
    with fleet.expect_response(lambda answer: answer.status == 304):
        pass


def test_slash_focuses_the_filter_and_the_address_keeps_it(fleet: Page) -> None:
    fleet.keyboard.press("/")
    fleet.keyboard.type("gem")
    expect(row(fleet, "gemma-3-12b")).to_be_visible()
    expect(row(fleet, "bge-m3")).to_have_count(0)
    expect(fleet).to_have_url("/?q=gem")
    fleet.reload()
    expect(row(fleet, "bge-m3")).to_have_count(0)


def test_stop_asks_first_with_cancel_in_focus_and_then_does_it(fleet: Page) -> None:
    row(fleet, "bge-m3").get_by_role("link", name="Stop bge-m3").click()
    dialog = fleet.get_by_role("dialog")
    expect(dialog).to_contain_text("1 replica of it serves now.")
    expect(dialog.get_by_role("button", name="Cancel")).to_be_focused()
    fleet.keyboard.press("Escape")
    expect(dialog).to_have_count(0)
    assert Model.objects.get(name="bge-m3").desired == "running"
    row(fleet, "bge-m3").get_by_role("link", name="Stop bge-m3").click()
    confirm(fleet, "Stop it")
    expect(fleet.get_by_role("status")).to_contain_text("bge-m3 is to stop.")
    expect(row(fleet, "bge-m3").get_by_text("Draining")).to_be_visible()
    assert Model.objects.get(name="bge-m3").desired == "stopped"


def test_start_is_one_click(fleet: Page) -> None:
    row(fleet, "mistral-7b-instruct").get_by_role("button", name="Start").click()
    expect(row(fleet, "mistral-7b-instruct").get_by_text("Queued")).to_be_visible()
    assert Model.objects.get(name="mistral-7b-instruct").desired == "running"


def test_delete_leaves_the_page_of_what_is_no_more(fleet: Page) -> None:
    fleet.goto("/models/mistral-7b-instruct")
    fleet.get_by_role("link", name="Delete").click()
    confirm_and_leave = fleet.get_by_role("dialog").get_by_role("button", name="Delete it")
    confirm_and_leave.click()
    expect(fleet).to_have_url("/")
    expect(fleet.get_by_role("status")).to_contain_text("mistral-7b-instruct is deleted.")
    expect(row(fleet, "mistral-7b-instruct")).to_have_count(0)


def test_the_open_menu_survives_an_update(fleet: Page) -> None:
    menu = row(fleet, "gemma-3-12b").locator("details.menu")
    menu.locator("summary").click()
    Replica.objects.get(model__name="gemma-3-12b").observe(Observed.READY, "Answers.")
    expect(row(fleet, "gemma-3-12b").get_by_text("Serving")).to_be_visible()
    expect(menu.get_by_role("link", name="Delete")).to_be_visible()


def test_the_form_follows_the_engine_and_keeps_what_was_written(fleet: Page) -> None:
    fleet.goto("/define")
    fleet.get_by_label("Context", exact=True).fill("4096")
    fleet.get_by_label("Layers on the GPU").fill("0")
    fleet.get_by_role("radio", name="vLLM").check()
    expect(fleet.get_by_label("Share of GPU memory")).to_be_visible()
    expect(fleet.get_by_label("Context", exact=True)).to_have_value("4096")
    expect(fleet.get_by_label("Layers on the GPU")).to_have_count(0)


def test_a_file_says_which_engine_fits(fleet: Page) -> None:
    fleet.goto("/define")
    fleet.get_by_role("radio", name="vLLM").check()
    fleet.get_by_label("File or folder").fill("tiny.gguf")
    fleet.get_by_label("File or folder").press("Tab")
    expect(fleet.get_by_role("radio", name="llama.cpp")).to_be_checked()
    expect(fleet.locator("#engine-part")).to_contain_text("Does not fit")


def test_what_is_wrong_is_said_at_the_field_and_above(page: Page, admin: Person) -> None:
    sign_in(page, "alice", "alice's password")
    page.goto("/define")
    page.get_by_label("Name", exact=True).fill("Not A Name")
    page.get_by_label("File or folder").fill("nowhere.gguf")
    page.get_by_role("button", name="Save", exact=True).click()
    summary = page.get_by_role("alert").filter(has_text="not valid")
    expect(summary).to_be_focused()
    summary.get_by_role("link", name="Name").click()
    expect(page.get_by_label("Name", exact=True)).to_have_attribute("aria-invalid", "true")
    expect(page.get_by_label("File or folder")).to_have_value("nowhere.gguf")
    assert not Model.objects.exists()


def test_the_keyboard_reaches_the_content_first(fleet: Page) -> None:
    fleet.keyboard.press("Tab")
    expect(fleet.get_by_role("link", name="Skip to the content")).to_be_focused()
    fleet.keyboard.press("Enter")
    expect(fleet.locator("main")).to_be_focused()


def test_a_key_is_shown_once(page: Page, admin: Person) -> None:
    sign_in(page, "alice", "alice's password")
    page.goto("/keys")
    page.get_by_label("Name").fill("nightly evaluation")
    page.get_by_role("button", name="Issue the key").click()
    expect(page.locator("#fresh")).to_contain_text("ctx_")
    page.goto("/keys")
    expect(page.locator("#fresh")).to_have_count(0)
    expect(page.get_by_role("row", name="nightly evaluation")).to_be_visible()


def test_a_silent_web_process_is_said_and_forgotten_when_it_answers_again(
    context: BrowserContext, admin: Person
) -> None:
    page = context.new_page()  # a page of its own: the browser complains of lost connections, as it should
    sign_in(page, "alice", "alice's password")
    banner = page.get_by_text("Live updates fail")
    expect(banner).to_be_hidden()
    context.set_offline(True)
    expect(banner).to_be_visible(timeout=10_000)
    context.set_offline(False)
    expect(banner).to_be_hidden(timeout=10_000)
