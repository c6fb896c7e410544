"""What a fix of the estimate does to the form: it shows, it can be undone, it saves; by keyboard and on a phone."""

import pytest
from playwright.sync_api import Locator, Page, expect

from cortex.access.models import Person
from cortex.catalog.models import Model
from tests import scene
from tests.browser.pages import sign_in
from tests.weights import LLAMA

pytestmark = pytest.mark.browser
SIZES = "context=131072&users=4"
HIDDEN = """() => {
    const focused = document.activeElement, box = focused.getBoundingClientRect();
    if (box.width < 3 || focused === document.body) return "";
    const seen = document.elementFromPoint(box.left + box.width / 2, box.bottom - 2);
    const foot = seen?.closest(".form-foot");
    return foot && !foot.contains(focused) ? focused.id || focused.textContent : "";
}"""


@pytest.fixture
def form(page: Page, admin: Person, weights: str) -> Page:
    """Somebody who may define models, on two cards in use, with one model in two formats."""
    scene.whole_fleet(admin)
    sign_in(page, "alice", "alice's password")
    return page


def panel(form: Page) -> Locator:
    return form.locator("estimate-panel")


def too_large(form: Page) -> None:
    form.goto(f"/define?name=probe&engine=llamacpp&source.kind=folder&source.path={LLAMA}.gguf&{SIZES}")
    expect(panel(form).locator("[data-verdict='does_not_fit']")).to_be_visible()


def test_a_fix_says_what_it_filled_in_and_undo_takes_it_back_without_a_mouse(form: Page) -> None:
    too_large(form)
    panel(form).get_by_role("button", name="Shorten the context").focus()
    form.keyboard.press("Enter")
    undo = panel(form).get_by_role("button", name="Undo")
    expect(undo).to_be_focused()
    context = form.get_by_label("Context", exact=True)
    expect(panel(form).locator(".applied")).to_contain_text(f"Context 131072 → {context.input_value()}")
    expect(panel(form).locator("[data-verdict='fits'], [data-verdict='tight']")).to_be_visible()
    form.keyboard.press("Enter")
    expect(context).to_have_value("131072")
    expect(panel(form).locator("[data-verdict='does_not_fit']")).to_be_visible()
    expect(undo).to_be_hidden()
    expect(panel(form).locator("summary").first).to_be_focused()


def test_from_the_sizes_it_is_two_keys_to_the_panel(form: Page) -> None:
    too_large(form)
    form.get_by_label("Replicas").focus()
    form.keyboard.press("Tab")
    expect(form.get_by_role("link", name="To what it takes")).to_be_focused()
    form.keyboard.press("Enter")
    expect(panel(form).locator("summary").first).to_be_focused()


def test_another_hand_on_a_filled_field_ends_the_undo(form: Page) -> None:
    too_large(form)
    panel(form).get_by_role("button", name="Shorten the context").click()
    expect(panel(form).get_by_role("button", name="Undo")).to_be_visible()
    form.get_by_label("Context", exact=True).fill("131072")
    expect(panel(form).get_by_role("button", name="Undo")).to_be_hidden()
    expect(panel(form).locator("[data-verdict='does_not_fit']")).to_be_visible()


def test_another_engine_is_taken_with_its_files_and_saved(form: Page) -> None:
    options = "options.gpu_memory_utilization=0.95&options.kv_cache_dtype=fp8"
    form.goto(f"/define?name=probe&engine=vllm&source.kind=folder&source.path={LLAMA}&context=8192&{options}")
    panel(form).get_by_role("button", name="under llama.cpp").first.click()
    expect(form.get_by_role("radio", name="llama.cpp")).to_be_checked()
    expect(form.get_by_label("File or folder")).to_have_value(f"{LLAMA}.gguf")
    expect(form.locator("#engine-part")).to_contain_text("Fits: it loads GGUF.")
    applied = panel(form).locator(".applied")
    expect(applied).to_contain_text("Engine vLLM → llama.cpp")
    expect(applied).to_contain_text("0.95 → empty")
    expect(form.get_by_label("Image", exact=True)).to_be_hidden()
    expect(panel(form).locator("[data-verdict='fits']")).to_be_visible()
    form.get_by_role("button", name="Save", exact=True).click()
    expect(form).to_have_url("/models/probe")
    model = Model.objects.get(name="probe")
    assert (model.engine, model.path, model.options) == ("llamacpp", f"{LLAMA}.gguf", {})


def test_an_engine_taken_is_given_back_with_its_options(form: Page) -> None:
    form.goto(f"/define?engine=vllm&source.kind=folder&source.path={LLAMA}&options.gpu_memory_utilization=0.95")
    panel(form).get_by_role("button", name="under llama.cpp").first.click()
    panel(form).get_by_role("button", name="Undo").click()
    expect(form.get_by_role("radio", name="vLLM")).to_be_checked()
    expect(form.get_by_label("Share of GPU memory")).to_have_value("0.95")
    expect(panel(form).locator("[data-verdict='does_not_fit']")).to_be_visible()


def test_on_a_phone_the_verdict_stays_in_sight_and_moves_nothing(form: Page) -> None:
    form.set_viewport_size({"width": 390, "height": 844})
    form.goto(f"/define?engine=llamacpp&source.kind=folder&source.path={LLAMA}.gguf&context=8192")
    summary = panel(form).locator("summary").first
    expect(summary).to_contain_text("Fits")
    expect(panel(form).locator(".estimate-card").first).to_be_hidden()
    users = form.get_by_label("Users", exact=True)
    users.scroll_into_view_if_needed()
    form.evaluate("scrollBy({top: 200, behavior: 'instant'})")
    before = users.bounding_box()
    form.get_by_label("Context", exact=True).fill("131072")
    users.fill("64")
    expect(summary).to_contain_text("Does not fit")
    expect(summary).to_contain_text("to fit")
    expect(summary).to_be_in_viewport(ratio=1)
    assert users.bounding_box() == before


def test_one_line_is_spoken_and_not_the_whole_panel(form: Page) -> None:
    too_large(form)
    expect(panel(form).get_by_role("status")).to_contain_text("Does not fit. It needs")
    assert panel(form).get_attribute("aria-live") is None
    form.get_by_label("Context", exact=True).fill("4096")
    expect(panel(form).get_by_role("status")).to_contain_text("Fits. It needs")


def test_what_nobody_can_say_is_no_zero(form: Page) -> None:
    form.goto("/define?engine=llamacpp&source.kind=hub&source.repository=owner/lost-GGUF")
    expect(panel(form)).to_contain_text("Nobody can say what it takes")
    expect(panel(form)).not_to_contain_text("Weights")
    expect(panel(form)).not_to_contain_text("stay free")


def test_weights_taken_away_leave_no_old_numbers(form: Page) -> None:
    too_large(form)
    form.get_by_label("File or folder").fill("")
    expect(panel(form)).to_contain_text("Choose weights")
    expect(panel(form)).not_to_contain_text("Does not fit")


@pytest.mark.parametrize("size", [(390, 844), (1280, 800)], ids=["phone", "desk"])
def test_what_is_reached_by_tab_is_never_behind_the_foot(form: Page, size: tuple[int, int]) -> None:
    form.set_viewport_size({"width": size[0], "height": size[1]})
    form.goto("/define")
    hidden = []
    for _ in range(45):
        form.keyboard.press("Tab")
        form.wait_for_timeout(30)
        hidden.append(form.evaluate(HIDDEN))
    assert not any(hidden), [each for each in hidden if each]
