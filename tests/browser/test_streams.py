"""What streams: the chat through the gateway, and a log that is followed without being torn away."""

import time

import pytest
from playwright.sync_api import Page, expect

from cortex.access.models import ApiKey, Person
from cortex.fleet.models import Replica
from cortex.telemetry import logs
from tests import scene
from tests.browser.conftest import SlowTalker
from tests.browser.pages import ask, log_lines, sign_in
from tests.browser.test_looks import look

pytestmark = pytest.mark.browser
MODEL = "bge-m3"


@pytest.fixture
def model(page: Page, broker: str, admin: Person) -> Page:
    """The page of a model that serves."""
    SlowTalker.asked.clear()
    SlowTalker.left.clear()
    scene.whole_fleet(admin)
    sign_in(page, "alice", "alice's password")
    page.goto(f"/models/{MODEL}")
    return page


def ship(texts: list[str]) -> None:
    logs.ship(Replica.objects.get(model__name=MODEL).id, 1, [(time.time_ns(), text) for text in texts])


def test_an_answer_streams_and_tells_its_speed(model: Page) -> None:
    expect(ask(model, "Say hello")).to_have_text("Hello from a model.")
    expect(model.locator(".chat-facts")).to_contain_text("tokens/s")
    expect(model.locator(".chat-facts")).to_contain_text("5 tokens")
    assert SlowTalker.asked[0]["model"] == MODEL
    assert ApiKey.objects.find(SlowTalker.asked[0]["key"].removeprefix("Bearer ")) is not None


def test_the_conversation_goes_on_with_the_same_key(model: Page) -> None:
    expect(ask(model, "Say hello")).to_have_text("Hello from a model.")
    expect(ask(model, "Again")).to_have_text("Hello from a model.")
    assert [message["role"] for message in SlowTalker.asked[1]["messages"]] == ["user", "assistant", "user"]
    assert ApiKey.objects.count() == 1


def test_stop_ends_the_answer_at_the_gateway_too(model: Page) -> None:
    answer = ask(model, "Something long")
    expect(answer).to_contain_text("Hello from a model. Hello".replace(". ", "."))
    model.get_by_role("button", name="Stop the answer").click()
    expect(model.get_by_role("button", name="Send")).to_be_visible()
    expect(model.locator(".chat-facts")).to_contain_text("stopped")
    for _ in range(50):
        if SlowTalker.left:
            return
        model.wait_for_timeout(100)
    raise AssertionError("the gateway still answered 5 s after Stop")


def test_the_log_follows_at_the_end_and_lets_go_when_scrolled_up(model: Page) -> None:
    ship([f"line {number}" for number in range(200)])
    box = model.get_by_role("log", name="Log")
    expect(log_lines(model).last).to_contain_text("line 199")
    expect(log_lines(model).last).to_be_in_viewport()
    box.evaluate("box => { box.scrollTop = 0 }")
    ship(["line 200", "line 201"])
    jump = model.get_by_role("button", name="2 new lines, to the end")
    expect(jump).to_be_visible()
    assert box.evaluate("box => box.scrollTop") == 0
    jump.click()
    expect(log_lines(model).last).to_be_in_viewport()
    expect(jump).to_be_hidden()


def test_a_busy_page_fits_every_window(model: Page) -> None:
    ship(
        [
            *scene.LOG.splitlines()[:4],
            "srv  update_slots: all slots are idle",
            "main: server is listening on 0.0.0.0:8000",
        ]
    )
    expect(ask(model, "Say hello")).to_have_text("Hello from a model.")
    expect(model.locator(".chat-facts")).to_be_visible()
    expect(log_lines(model).last).to_contain_text("server is listening")
    look(model, "chatting")


def test_a_model_that_died_shows_the_log_it_left(model: Page) -> None:
    model.goto("/models/llama-3.3-70b")
    expect(log_lines(model).last).to_contain_text("exiting due to model loading error")
    expect(model.get_by_text("Lower the context from 65,536").first).to_be_visible()
