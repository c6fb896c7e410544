"""WCAG's AA, computed from what the browser paints: 4.5 to 1 for text, 3 to 1 for the edges of fields."""

from pathlib import Path

import pytest
from playwright.sync_api import Page

from cortex.access.models import Person
from tests import scene
from tests.browser.pages import sign_in
from tests.browser.test_looks import PAGES

pytestmark = pytest.mark.browser
TOO_LOW = (Path(__file__).parent / "contrast.js").read_text()


def test_everything_can_be_read_in_light_and_dark(page: Page, admin: Person) -> None:
    scene.whole_fleet(admin)
    sign_in(page, "alice", "alice's password")
    found = {}
    for scheme in ("light", "dark"):
        page.emulate_media(color_scheme=scheme, reduced_motion="reduce")
        for name, address in PAGES.items():
            page.goto(address)
            page.wait_for_timeout(300)
            found[name, scheme] = page.evaluate(TOO_LOW)
    assert not any(found.values()), {name: low for name, low in found.items() if low}
