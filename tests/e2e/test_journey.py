"""The way of somebody new, in a real browser: from the setup link to a streamed answer, and back to nothing."""

import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Browser, BrowserContext, Page, expect

from tests.browser import pages
from tests.e2e.conftest import ROOT, Cortex, eventually

pytestmark = [pytest.mark.browser, pytest.mark.timeout(300)]

SCREENSHOTS = ROOT / "docs" / "screenshots"


SERVED: list[tuple[str, str, str, dict[str, Any]]] = [
    ("llama", "llama-3.1-8b.gguf", "llama.cpp", {"context": "16384", "users": "4"}),
    ("gpt-oss", "gpt-oss-120b.gguf", "llama.cpp", {"context": "32768", "gpus": "2"}),
    ("tiny", "tiny-safetensors", "vLLM", {}),
]


@pytest.fixture
def keep(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    """Where pictures go: docs/ when asked for by `--screenshots`, else nowhere that lasts."""
    return SCREENSHOTS if request.config.getoption("--screenshots") else tmp_path


def window(browser: Browser, url: str, **more: str) -> BrowserContext:
    context = browser.new_context(base_url=url, viewport={"width": 1280, "height": 860}, **more)  # type: ignore[arg-type]
    context.set_default_timeout(10_000)
    expect.set_options(timeout=30_000)
    return context


@pytest.fixture
def page(browser: Browser, request: pytest.FixtureRequest) -> Iterator[Page]:
    cortex: Cortex = request.getfixturevalue(request.param)
    context = window(browser, cortex.running.web)
    with pages.watched(context) as page:
        yield page
    context.close()


@pytest.mark.docker
@pytest.mark.parametrize("page", ["cortex"], indirect=True)
def test_from_the_setup_link_to_a_streamed_answer_on_real_docker(page: Page, cortex: Cortex, keep: Path) -> None:
    pages.set_up(page, cortex.manage("setup_link"), "ada", "a long and good password")
    pages.define(page, "made", "made.gguf", context="1024", users="2")
    expect(pages.state(page)).to_contain_text("Serving")
    expect(pages.ask(page, "Hello?")).to_contain_text("started by Cortex.")
    expect(page.locator(".timeline")).to_contain_text("Cache sized")
    expect(page.locator(".timeline")).to_contain_text("first answer")
    expect(pages.log_lines(page).filter(has_text="listening").first).to_be_visible()
    page.screenshot(path=keep / "model.png")

    [container] = cortex.containers()
    subprocess.run(["docker", "kill", container], check=True, capture_output=True)
    eventually(lambda: cortex.containers() not in ([container], []))
    expect(pages.state(page)).to_contain_text("Serving")
    expect(page.get_by_text("exit status 137").first).to_be_visible()

    page.get_by_role("link", name="Stop", exact=True).click()
    pages.confirm(page, "Stop it")
    expect(pages.state(page)).to_contain_text("Stopped")
    assert cortex.containers() == []
    page.get_by_role("link", name="Delete", exact=True).click()
    page.get_by_role("dialog").get_by_role("button", name="Delete it").click()
    expect(page.get_by_role("heading", name="Models", exact=True)).to_be_visible()


@pytest.mark.parametrize("page", ["pretend"], indirect=True)
def test_a_tour_of_pretend_mode(page: Page, pretend: Cortex, keep: Path) -> None:
    pages.set_up(page, pretend.manage("setup_link"), "ada", "a long and good password")
    expect(page.get_by_text("Pretend mode")).to_be_visible()
    for name, path, engine, sizes in SERVED:
        pages.define(page, name, path, engine=engine, **sizes)
        expect(pages.state(page)).to_contain_text("Serving")
    pages.define(page, "deepseek", "deepseek-v3.gguf", users="4")
    expect(page.get_by_text("It needs").first).to_be_visible()
    page.screenshot(path=keep / "too-large.png")
    page.goto("/models/llama")
    expect(pages.ask(page, "Who are you?")).to_contain_text("pretend")
    page.goto("/")
    expect(pages.row(page, "llama")).to_contain_text("Serving")
    page.screenshot(path=keep / "models.png")
    page.goto("/define")
    page.get_by_label("Name", exact=True).fill("gemma")
    page.get_by_label("File or folder").fill("gemma-3-27b.gguf")
    page.get_by_role("textbox", name="Context", exact=True).fill("131072")
    page.get_by_role("textbox", name="Users", exact=True).fill("16")
    expect(page.locator("estimate-panel")).to_contain_text("GiB")
    page.screenshot(path=keep / "estimate.png")
    page.goto("/hosts")
    expect(page.get_by_text("Imaginary L40S").first).to_be_visible()
    page.screenshot(path=keep / "hosts.png")
