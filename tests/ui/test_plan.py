"""The stack plan's page: the same numbers as REST's, whoever cannot be reckoned with left out by name."""

import html
import json
from pathlib import Path

import pytest
from django.test import Client

from cortex.access.models import ApiKey, Person
from cortex.catalog.models import Desired, Model
from cortex.fleet.models import Gpu, Host
from tests import scene
from tests.ui.conftest import SignIn
from tests.weights import LLAMA, put_gguf, put_safetensors

HTMX = {"HX-Request": "true"}


@pytest.fixture
def bobs(at: SignIn, bob: Person) -> Client:
    return at(bob)


@pytest.fixture
def stack(models_folder: Path) -> None:
    """Two cards, a model under each engine, one that runs on the processor and one that nobody can read."""
    scene.host()
    gguf, folder = put_gguf(models_folder), put_safetensors(models_folder)
    scene.model("small", path=gguf, users=2)
    scene.model("greedy", engine="vllm", path=folder, users=4)
    scene.model("slow", path=gguf, gpus=0, desired=Desired.STOPPED)
    scene.model("lost", path="nowhere.gguf", desired=Desired.STOPPED)


def test_at_first_all_that_run_are_planned_with_the_numbers_of_rest(bobs: Client, bob: Person, stack: None) -> None:
    page = bobs.get("/plan").context["page"]
    definitions = [
        {"name": "greedy", "engine": "vllm", "source": {"path": "llama-hf"}, "context": 8192, "users": 4},
        {"name": "small", "engine": "llamacpp", "source": {"path": f"{LLAMA}.gguf"}, "context": 8192, "users": 2},
    ]
    body = json.dumps({"definitions": definitions})
    _, secret = ApiKey.objects.issue(bob, "rest", ["manage"])
    key = {"Authorization": f"Bearer {secret}"}
    told = bobs.post("/api/v1/estimates/stack", body, content_type="application/json", headers=key).json()
    assert [part.name for part in page.parts] == ["greedy", "small"]
    assert [(row.scenario.title, row.scenario.total) for row in page.rows] == [
        (each["title"], each["total"]) for each in told["scenarios"]
    ]
    assert {step.name: step.seated.share.bytes for step in page.steps} == {
        share["name"]: share["bytes"] for share in told["shares"]
    }


def test_a_change_leads_to_the_form_filled_in_and_nothing_is_saved(bobs: Client, stack: None) -> None:
    step = next(step for step in bobs.get("/plan").context["page"].steps if step.name == "greedy")
    assert f'href="/models/greedy/edit?{step.query}"' in bobs.get("/plan").content.decode()
    draft = bobs.get(f"/models/greedy/edit?{step.query}").context["draft"]
    [change] = draft.changes
    assert (change.field.title, change.now) == ("Share of GPU memory", str(step.seated.share.fraction))
    assert draft.values["options.gpu_memory_utilization"] == change.now
    assert Model.objects.get(name="greedy").options == {}


def test_an_address_fills_in_sizes_and_options_alone(bobs: Client, stack: None) -> None:
    draft = bobs.get("/models/small/edit?users=9&engine=vllm&name=other&source.path=x&turn=1").context["draft"]
    assert [change.field.name for change in draft.changes] == ["users"]
    assert (draft.values["users"], draft.values["engine"], draft.values["name"]) == ("9", "llamacpp", "small")


def test_who_cannot_be_planned_is_named_and_the_others_are_planned(bobs: Client, stack: None) -> None:
    answer = bobs.get("/plan?asked=1&model=small&model=slow&model=lost&host=atlas")
    assert [each.name for each in answer.context["left_out"]] == ["lost"]
    words = answer.content.decode()
    assert "slow</strong> runs on the processor" in words
    assert "lost</a>: nowhere.gguf" in words
    assert [part.name for part in answer.context["page"].parts] == ["small"]
    assert [each.label for each in answer.context["page"].host] == ["slow", "small", "free"]


def test_a_stack_of_the_processor_alone_is_planned_in_the_host_s_memory(bobs: Client, stack: None) -> None:
    answer = bobs.get("/plan?asked=1&model=slow&host=atlas")
    assert answer.context["page"].rows == []
    assert "The host's own memory" in html.unescape(answer.content.decode())
    Host.objects.update(memory=1)
    assert "too little" in bobs.get("/plan?asked=1&model=slow&host=atlas").content.decode()


def test_options_that_its_engine_refuses_leave_a_model_out_not_the_plan(bobs: Client, stack: None) -> None:
    scene.model("odd", engine="vllm", path="llama-hf", options={"gpu_memory_utilization": 7})
    answer = bobs.get("/plan?asked=1&model=odd&model=small&host=atlas")
    assert [each.name for each in answer.context["left_out"]] == ["odd"]
    assert [part.name for part in answer.context["page"].parts] == ["small"]


def test_where_none_can_be_planned_it_is_said(bobs: Client, stack: None) -> None:
    assert b"None of these can be planned" in bobs.get("/plan?asked=1&model=lost&host=atlas").content


def test_no_choice_is_a_choice(bobs: Client, stack: None) -> None:
    words = bobs.get("/plan?asked=1&host=atlas", headers=HTMX).content.decode()
    assert "Choose models" in words
    assert "<html" not in words


def test_cards_may_be_imagined_and_what_finds_no_room_is_said(bobs: Client, stack: None) -> None:
    answer = bobs.get("/plan?asked=1&model=small&model=greedy&host=&cards=1&gib=20")
    assert answer.context["page"].room == 20 * scene.GIB
    words = answer.content.decode()
    assert "No room for 1" in words
    assert "no room" in words
    assert "more than there is" in words


@pytest.mark.parametrize("wrong", ["cards=99", "gib=many", "host=nowhere", "model=nobody"])
def test_a_wrong_wish_is_told_and_plans_nothing(bobs: Client, stack: None, wrong: str) -> None:
    answer = bobs.get(f"/plan?asked=1&model=small&host=&{wrong}")
    assert 'role="alert"' in answer.content.decode()
    assert "page" not in answer.context


def test_without_models_it_says_what_to_do(bobs: Client) -> None:
    assert b"No models to plan with" in bobs.get("/plan").content


def test_a_viewer_sees_the_plan_and_no_way_to_change(at: SignIn, charlie: Person, stack: None) -> None:
    words = at(charlie).get("/plan").content.decode()
    assert "What would be applied" in words
    assert "Look at it" not in words


def test_a_host_whose_cards_are_gone_says_so(bobs: Client, stack: None) -> None:
    Gpu.objects.update(missing=True)
    words = bobs.get("/plan?asked=1&model=small&host=atlas").content.decode()
    assert "There is no GPU." in words
    assert "Left out" not in words
