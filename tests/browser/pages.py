"""What a person does on each page, in their words: tests speak these, not selectors."""

from collections.abc import Iterator
from contextlib import contextmanager

from playwright.sync_api import BrowserContext, Locator, Page, expect

NOISE = (
    "net::ERR_NETWORK_CHANGED",  # another program gave this machine a network interface meanwhile
    "the server responded with a status of 422",  # how a form answers; the browser tells it as an error
)


@contextmanager
def watched(context: BrowserContext) -> Iterator[Page]:
    """A page that fails its test on any complaint of the browser, broken rules of the content policy included."""
    complaints: list[str] = []
    page = context.new_page()
    page.on("console", lambda said: complaints.append(said.text) if said.type in ("error", "warning") else None)
    page.on("pageerror", lambda error: complaints.append(str(error)))
    yield page
    left = [complaint for complaint in complaints if not any(noise in complaint for noise in NOISE)]
    assert not left, left


def set_up(page: Page, link: str, name: str, password: str) -> None:
    """Follow the setup link and make the first administrator."""
    page.goto(link)
    page.get_by_label("Username").fill(name)
    page.get_by_label("Password", exact=True).fill(password)
    page.get_by_label("Password again").fill(password)
    page.get_by_role("button", name="Make the administrator").click()
    expect(page.get_by_role("heading", name="Models", exact=True)).to_be_visible()


def sign_in(page: Page, name: str, password: str) -> None:
    page.goto("/login")
    page.get_by_label("Username").fill(name)
    page.get_by_label("Password").fill(password)
    page.get_by_role("button", name="Sign in").click()
    expect(page.get_by_role("heading", name="Models", exact=True)).to_be_visible()


def define(page: Page, name: str, path: str, *, engine: str = "llama.cpp", start: bool = True, **sizes: str) -> None:
    """Fill the form of a new model and save it; `sizes` by the fields' titles in lower case."""
    page.goto("/define")
    page.get_by_label("Name", exact=True).fill(name)
    page.get_by_label("File or folder").fill(path)
    page.get_by_role("radio", name=engine).check()
    for title, value in sizes.items():
        name = {"gpus": "GPUs"}.get(title, title.capitalize())
        page.get_by_role("textbox", name=name, exact=True).fill(value)
    page.get_by_role("button", name="Save and start" if start else "Save", exact=True).click()


def row(page: Page, name: str) -> Locator:
    """A model's row in the list."""
    return page.get_by_role("row").filter(has=page.get_by_role("link", name=name, exact=True))


def state(page: Page) -> Locator:
    """The state word on a model's page."""
    return page.locator("#state")


def confirm(page: Page, button: str) -> None:
    """Say yes to the open dialog."""
    page.get_by_role("dialog").get_by_role("button", name=button).click()
    expect(page.get_by_role("dialog")).to_have_count(0)


def ask(page: Page, words: str) -> Locator:
    """Say something to the model; its answer, which may still grow."""
    page.get_by_label("Message").fill(words)
    page.get_by_role("button", name="Send").click()
    return page.locator(".says.it").last


def log_lines(page: Page) -> Locator:
    return page.get_by_role("log", name="Log").locator("p")
