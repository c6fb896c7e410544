"""The list, the page of a model and the form, as answers."""

import json
from datetime import timedelta
from pathlib import Path

import pytest
from django.test import Client

from cortex.access.models import Person
from cortex.catalog.models import Model
from cortex.fleet import clock
from cortex.fleet.models import Host, Replica
from cortex.fleet.states import Observed
from tests import scene
from tests.ui.conftest import SignIn
from tests.weights import put_gguf, put_safetensors

HTMX = {"HX-Request": "true"}
HUB = {"name": "tiny", "engine": "llamacpp", "source.kind": "hub", "source.repository": "owner/tiny-GGUF"}


@pytest.fixture
def bobs(at: SignIn, bob: Person) -> Client:
    return at(bob)


@pytest.mark.parametrize("path", ["/", "/hosts", "/models/bge-m3", "/models/llama-3.3-70b"])
def test_what_lives_on_a_page_is_sent_only_when_it_changed(bobs: Client, path: str) -> None:
    scene.whole_fleet()
    first = bobs.get(path, headers=HTMX)
    assert b"<html" not in first.content
    again = bobs.get(path, headers={**HTMX, "HX-PTag": first["HX-PTag"]})
    assert (again.status_code, again.content) == (304, b"")


def test_a_change_is_sent(bobs: Client) -> None:
    scene.whole_fleet()
    first = bobs.get("/", headers=HTMX)
    Replica.objects.get(model__name="gemma-3-12b").observe(Observed.READY, "Answers.")
    assert bobs.get("/", headers={**HTMX, "HX-PTag": first["HX-PTag"]}).status_code == 200


def test_the_list_takes_the_same_number_of_queries_for_many_models(
    bobs: Client, django_assert_max_num_queries: object
) -> None:
    scene.whole_fleet()
    for number in range(20):
        scene.replica(scene.model(f"more-{number}"), Host.objects.get(), Observed.READY, "Answers.")
    with django_assert_max_num_queries(8):  # type: ignore[operator]
        bobs.get("/", headers=HTMX)


def test_a_failing_model_shows_why_and_what_to_do(bobs: Client) -> None:
    scene.whole_fleet()
    words = bobs.get("/models/llama-3.3-70b").content.decode()
    assert "41.2 GiB were asked for on a card with 33.1 GiB free" in words
    assert "Lower the context from 65,536 to 16,384" in words
    assert "exit 1" in words


def test_the_first_of_a_row_of_failures_stays_in_sight(bobs: Client) -> None:
    scene.whole_fleet()
    replica = Replica.objects.get(model__name="llama-3.3-70b")
    for number in range(4, 16):
        scene.attempt(replica, number, timedelta(minutes=1), ended_at=clock.now(), failure=number, reason="Again.")
    words = bobs.get("/models/llama-3.3-70b").content.decode()
    assert words.index("first failure") < words.index("0 · #15")
    assert words.count("0 · #1<") == 1
    assert "0 · #2<" not in words


def test_who_is_in_the_way_is_a_link(bobs: Client) -> None:
    atlas = scene.whole_fleet()
    waiting = scene.replica(scene.model("large"), atlas, Observed.ABSENT, "Waits for room.")
    Replica.objects.filter(id=waiting.id).update(in_the_way=["bge-m3/0", "gemma-3-12b/0"])
    words = bobs.get("/models/large").content.decode()
    assert '<a href="/models/bge-m3">bge-m3/0</a>, <a href="/models/gemma-3-12b">gemma-3-12b/0</a>' in words


def test_states_have_a_word_and_an_icon(bobs: Client) -> None:
    scene.whole_fleet()
    words = bobs.get("/").content.decode()
    for icon, word in [("check-circle", "Serving"), ("download", "Fetching"), ("alert", "Failing")]:
        assert f'icons.svg#{icon}"/></svg> {word}</span>' in words


def test_a_model_that_is_not_there_is_404_with_words(bobs: Client) -> None:
    answer = bobs.get("/models/nobody")
    assert answer.status_code == 404
    assert b"There is no model named" in answer.content


def test_a_name_with_markup_is_text(bobs: Client, bob: Person) -> None:
    scene.model("quiet", path="<script>alert(1)</script>.gguf")
    assert b"<script>alert" not in bobs.get("/").content


def test_pretend_mode_is_said_on_every_page(bobs: Client, settings: object) -> None:
    settings.PRETEND = True  # type: ignore[attr-defined]
    for page in ("/", "/hosts", "/keys", "/define"):
        assert b"Pretend mode." in bobs.get(page).content


def test_the_form_saves_a_definition(bobs: Client) -> None:
    answer = bobs.post("/define", {**HUB, "context": "4096", "options.n_gpu_layers": "0", "replicas": "1"})
    assert (answer.status_code, answer["Location"]) == (302, "/models/tiny")
    model = Model.objects.get(name="tiny")
    assert (model.context, model.options, model.desired) == (4096, {"n_gpu_layers": 0}, "stopped")


def test_save_and_start_starts(bobs: Client) -> None:
    bobs.post("/define", {**HUB, "start": "1"})
    assert Model.objects.get(name="tiny").desired == "running"


def test_an_empty_field_is_the_engine_s_default_and_off_is_a_value(bobs: Client) -> None:
    bobs.post("/define", {**HUB, "options.threads": "", "options.kv_unified": "false", "options.swa_full": "true"})
    assert Model.objects.get(name="tiny").options == {"kv_unified": False, "swa_full": True}


def test_lines_become_a_list(bobs: Client) -> None:
    bobs.post("/define", {**HUB, "options.tensor_split": "3\n\n 1 \n"})
    assert Model.objects.get(name="tiny").options == {"tensor_split": [3, 1]}


PLACE = {
    "placement.cards": "GPU-1\n GPU-2\n", "placement.hosts": "atlas", "placement.labels": "zone = cellar",
    "placement.spread": "true",
}  # fmt: skip


def test_where_it_may_run_is_kept_by_an_edit(bobs: Client) -> None:
    bobs.post("/define", {**HUB, **PLACE})
    model = Model.objects.get(name="tiny")
    wish = {"cards": ["GPU-1", "GPU-2"], "hosts": ["atlas"], "labels": {"zone": "cellar"}, "spread": True}
    assert model.placement == wish
    form = bobs.get("/models/tiny/edit").context["draft"]
    assert bobs.post("/models/tiny/edit", {**form.values, "turn": form.turn, "users": "3"}).status_code == 302
    model.refresh_from_db()
    assert (model.placement, model.users) == (wish, 3)
    assert "GPU-1, GPU-2" in bobs.get("/models/tiny").content.decode()


def test_what_is_wrong_with_where_it_may_run_is_told_at_its_field(bobs: Client) -> None:
    answer = bobs.post("/define", {**HUB, "placement.cards": "number one"})
    assert answer.status_code == 422
    assert 'href="#field-placement-cards"' in answer.content.decode()
    assert "is no GPU&#x27;s UUID" in answer.content.decode()


def test_the_form_names_the_cards_hosts_and_labels_there_are(bobs: Client) -> None:
    atlas = scene.host()
    Host.objects.filter(id=atlas.id).update(labels={"zone": "attic"})
    words = bobs.get("/define").content.decode()
    for value in ("GPU-5f1c0a7e-90d2-4b1e-8c33-1f0a6b7d2e40", "atlas", "zone=attic"):
        assert f'data-adds="{value}"' in words


def test_what_is_wrong_is_told_at_its_field_with_422_and_nothing_is_written(bobs: Client) -> None:
    answer = bobs.post("/define", {**HUB, "context": "much", "options.threads": "0", "options.flash_attn": "on"})
    words = answer.content.decode()
    assert answer.status_code == 422
    assert 'href="#field-context"' in words
    assert 'value="much"' in words
    assert not Model.objects.exists()


def test_an_option_out_of_bounds_is_told_at_its_field(bobs: Client) -> None:
    answer = bobs.post("/define", {**HUB, "options.threads": "0"})
    assert answer.status_code == 422
    assert 'href="#field-options-threads"' in answer.content.decode()


def test_a_taken_name_is_refused(bobs: Client) -> None:
    scene.model("tiny")
    answer = bobs.post("/define", HUB)
    assert answer.status_code == 422
    assert "A model named &#x27;tiny&#x27; exists." in answer.content.decode()


def test_an_edit_shows_what_is_and_changes_it(bobs: Client) -> None:
    bobs.post("/define", {**HUB, "options.n_gpu_layers": "0"})
    words = bobs.get("/models/tiny/edit").content.decode()
    assert 'value="owner/tiny-GGUF"' in words
    turn = Model.objects.get(name="tiny").turn
    bobs.post("/models/tiny/edit", {**HUB, "turn": turn, "options.n_gpu_layers": "12"})
    assert Model.objects.get(name="tiny").options == {"n_gpu_layers": 12}


def test_an_edit_of_what_somebody_else_changed_is_refused(bobs: Client) -> None:
    bobs.post("/define", HUB)
    turn = Model.objects.get(name="tiny").turn
    bobs.post("/models/tiny/edit", {**HUB, "turn": turn, "context": "1024"})
    answer = bobs.post("/models/tiny/edit", {**HUB, "turn": turn, "context": "2048"})
    assert answer.status_code == 422
    assert b"Somebody changed this model" in answer.content
    assert Model.objects.get(name="tiny").context == 1024


def test_the_engine_s_part_keeps_what_means_the_same(bobs: Client) -> None:
    words = bobs.post(
        "/define/engine",
        {**HUB, "engine": "vllm", "drawn": "llamacpp", "options.extra_args": "--mlock", "options.n_gpu_layers": "3"},
    ).content.decode()
    assert "Options of vLLM" in words
    assert "--mlock" not in words
    assert "Does not fit: it loads safetensors, and this is GGUF." in words


def test_files_of_the_models_folder_are_suggested(bobs: Client, models_folder: Path) -> None:
    (models_folder / "small.gguf").touch()
    assert b"<option>small.gguf</option>" in bobs.get("/define").content


def test_an_order_from_the_list_answers_with_a_toast(bobs: Client) -> None:
    scene.whole_fleet()
    answer = bobs.post("/models/bge-m3/stop", headers={**HTMX, "HX-Current-URL": "http://testserver/"})
    assert answer.status_code == 204
    assert json.loads(answer["HX-Trigger"])["cortex:toast"]["words"] == "bge-m3 is to stop."


def test_an_order_never_leads_to_another_site(bobs: Client) -> None:
    scene.whole_fleet()
    assert bobs.post("/models/bge-m3/stop", {"back": "//evil.example/"})["Location"] == "/"


def test_without_a_broker_the_log_is_what_was_kept(bobs: Client) -> None:
    scene.whole_fleet()
    replica = Replica.objects.get(model__name="llama-3.3-70b")
    told = bobs.get(f"/models/llama-3.3-70b/log?replica={replica.id}").json()
    assert told["kept"] == scene.LOG.splitlines()
    assert "broker does not answer" in told["note"]


@pytest.mark.parametrize("replica", ["", "x", "00000000-0000-0000-0000-000000000000"])
def test_a_log_of_nothing_says_so(bobs: Client, replica: str) -> None:
    scene.whole_fleet()
    assert bobs.get(f"/models/bge-m3/log?replica={replica}").json()["note"] == "This replica is no more."


def test_the_open_page_of_a_deleted_model_leaves_for_the_list(bobs: Client) -> None:
    answer = bobs.get("/models/nobody", headers=HTMX)
    assert (answer.status_code, answer["HX-Redirect"]) == (200, "/")
    assert b"nobody was deleted." in bobs.get("/").content


def test_an_empty_fleet_says_where_hosts_come_from(bobs: Client) -> None:
    assert b"No host has reported yet" in bobs.get("/hosts").content


def test_a_host_without_cards_says_why(bobs: Client) -> None:
    Host.objects.create(name="cpu", gpu_condition="No NVIDIA driver: install it, then restart the agent.")
    words = bobs.get("/hosts").content.decode()
    assert "No NVIDIA driver" in words
    assert "Silent" in words


def test_a_card_s_bar_adds_up(bobs: Client) -> None:
    scene.whole_fleet()
    words = bobs.get("/hosts").content.decode()
    assert "qwen3-30b-a3b 12.0 GiB, qwen3-30b-a3b 12.0 GiB, bge-m3 3.0 GiB, used by others 7.0 GiB" in words


def test_a_long_refusal_is_folded_and_its_cards_go_by_number(bobs: Client, models_folder: Path) -> None:
    scene.whole_fleet()
    wanted = {"engine": "llamacpp", "source.path": put_gguf(models_folder), "context": "131072", "users": "4"}
    panel = bobs.post("/define/estimate", wanted).context["panel"]
    assert panel.reason == "It needs 36.8 GiB on each of 2 GPUs."
    assert panel.card_by_card.startswith("GPU 0 has 14.0 GiB of 48.0 GiB free: bge-m3/0 holds 3.0 GiB")
    assert "It would fit if" not in panel.card_by_card
    assert panel.forecast.in_the_way


def test_users_whose_context_does_not_fit_at_once_are_counted(bobs: Client, models_folder: Path) -> None:
    scene.host()
    wanted = {"engine": "vllm", "source.path": put_safetensors(models_folder), "context": "65536", "users": "64"}
    wanted |= {"options.gpu_memory_utilization": "0.8", "gpus": "1"}
    told = bobs.post("/define/estimate", wanted).context["panel"]
    assert told.look.word == "Fits"
    assert told.shortfall.startswith(f"Only {told.forecast.most_users} of 64 users")
    assert bobs.post("/define/estimate", {**wanted, "users": "1"}).context["panel"].shortfall == ""


def test_where_nothing_makes_it_fit_it_is_said(bobs: Client, models_folder: Path) -> None:
    wanted = {"engine": "llamacpp", "source.path": put_gguf(models_folder, "deepseek-v3"), "context": "131072"}
    scene.host()
    words = bobs.post("/define/estimate", {**wanted, "users": "64"}).content.decode()
    assert "No change that Cortex knows makes it fit here" in words
    assert "data-fills" not in words


def test_a_name_half_typed_takes_no_estimate_away(bobs: Client, models_folder: Path) -> None:
    scene.host()
    wanted = {"engine": "llamacpp", "source.path": put_gguf(models_folder), "context": "8192"}
    assert bobs.post("/define/estimate", {**wanted, "name": "Not-"}).context["panel"].look.word == "Fits"
    told = bobs.post("/define/estimate", {**wanted, "name": "Not-", "context": "many"}).content.decode()
    assert "Not estimated yet." in told
