"""Every page, light and dark, narrow and wide: no complaint of the browser, nothing wider than the window."""

import os
from pathlib import Path

import pytest
from playwright.sync_api import BrowserContext, Page, expect

from cortex.access import setup
from cortex.access.models import ApiKey, Person
from tests import scene
from tests.browser.pages import sign_in

pytestmark = pytest.mark.browser

SHOTS = os.environ.get("CORTEX_SCREENSHOTS")
SIZES = {"wide": (1280, 860), "narrow": (390, 844)}
TOO_WIDE = """() => document.documentElement.scrollWidth <= innerWidth ? [] : [...document.querySelectorAll("body *")]
    .filter((e) => e.getBoundingClientRect().right > innerWidth + 1).map((e) => e.outerHTML.slice(0, 120))"""
PAGES = {
    "models": "/",
    "new-model": "/define",
    "edit": "/models/qwen3-30b-a3b/edit",
    "serving": "/models/qwen3-30b-a3b",
    "fetching": "/models/deepseek-r1-distill-llama-8b",
    "failing": "/models/llama-3.3-70b",
    "plan-of-what-is-not-there": "/plan",
    "hosts": "/hosts",
    "cordon": "/hosts/atlas/cordon",
    "labels": "/hosts/atlas/labels",
    "keys": "/keys",
}


def look(page: Page, name: str) -> None:
    """The page as it is in each size and colour scheme."""
    for size, (width, height) in SIZES.items():
        page.set_viewport_size({"width": width, "height": height})
        assert not page.evaluate(TOO_WIDE), f"{name} is wider than {width}"
        for scheme in ("light", "dark"):
            page.emulate_media(color_scheme=scheme)
            if SHOTS:
                page.wait_for_timeout(200)
                page.screenshot(path=Path(SHOTS) / f"{name}-{size}-{scheme}.png", full_page=True)


@pytest.mark.parametrize("name", PAGES)
def test_a_page_fits_every_window_and_complains_of_nothing(page: Page, admin: Person, name: str) -> None:
    scene.whole_fleet(admin)
    ApiKey.objects.issue(admin, "nightly evaluation", ["infer"])
    ApiKey.objects.issue(admin, "terraform", ["manage"])
    sign_in(page, "alice", "alice's password")
    page.goto(PAGES[name])
    page.wait_for_timeout(300)
    look(page, name)


def test_the_doors_fit_every_window(page: Page, context: BrowserContext) -> None:
    token = setup.new_token()
    page.goto("/")
    expect(page.get_by_role("heading", name="Welcome to Cortex")).to_be_visible()
    look(page, "setup-link")
    page.goto(f"/setup?token={token}")
    look(page, "setup")


def test_an_empty_list_says_what_to_do(page: Page, admin: Person) -> None:
    sign_in(page, "alice", "alice's password")
    expect(page.get_by_role("link", name="Define the first model")).to_be_visible()
    look(page, "empty")
