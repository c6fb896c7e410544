"""Models over REST: define, change, start, stop, remove."""

from typing import Any

import pytest
from kombu.exceptions import OperationalError
from rest_framework.test import APIClient

from cortex.catalog.models import Model, Order
from cortex.fleet import clock
from cortex.fleet.models import Host
from cortex.orchestration import tasks
from tests.api import rows

MODELS = "/api/v1/models"
TINY = "/api/v1/models/tiny"


def test_a_definition_comes_back_as_it_was_put(as_bob: APIClient, tiny: dict[str, Any]) -> None:
    made = as_bob.put(TINY, {**tiny, "options": {"n_gpu_layers": 0}, "context": 512}, format="json")
    assert made.status_code == 201
    assert made["Location"] == TINY
    shown = as_bob.get(TINY).json()
    assert shown["spec"]["options"] == {"n_gpu_layers": 0}
    assert (shown["spec"]["context"], shown["spec"]["source"]["path"]) == (512, "tiny.gguf")
    assert shown["status"] == {
        "phase": "stopped",
        "reason": "Stopped.",
        "ready": 0,
        "wanted": 0,
        "settled": True,
        "replicas": [],
    }
    again = as_bob.put(TINY, shown["spec"], format="json")
    assert (again.status_code, again["ETag"]) == (200, made["ETag"])


def test_the_loop_is_poked_when_the_order_is_kept(
    as_bob: APIClient, tiny: dict[str, Any], poked: list[int], django_capture_on_commit_callbacks: Any
) -> None:
    with django_capture_on_commit_callbacks(execute=True):
        as_bob.post(MODELS, tiny, format="json")
    assert poked == [Model.objects.get().id]


def test_a_new_model_needs_a_free_name(as_bob: APIClient, tiny: dict[str, Any]) -> None:
    assert as_bob.post(MODELS, tiny, format="json").status_code == 201
    taken = as_bob.post(MODELS, tiny, format="json")
    assert (taken.status_code, taken.json()["code"]) == (409, "conflict")
    assert taken.json()["errors"][0]["pointer"] == "/name"


def test_put_with_if_none_match_does_not_replace(as_bob: APIClient, tiny: dict[str, Any]) -> None:
    assert as_bob.put(TINY, tiny, format="json", HTTP_IF_NONE_MATCH="*").status_code == 201
    assert as_bob.put(TINY, tiny, format="json", HTTP_IF_NONE_MATCH="*").status_code == 409


def test_a_merge_patch_changes_parts_and_null_takes_them_away(as_bob: APIClient, tiny: dict[str, Any]) -> None:
    as_bob.put(TINY, {**tiny, "context": 512, "users": 2}, format="json")
    patched = as_bob.patch(TINY, '{"context": null, "users": 3}', content_type="application/merge-patch+json")
    assert patched.status_code == 200
    assert (patched.json()["spec"]["context"], patched.json()["spec"]["users"]) == (None, 3)


def test_a_change_to_what_somebody_else_changed_is_refused(as_bob: APIClient, tiny: dict[str, Any]) -> None:
    tag = as_bob.put(TINY, tiny, format="json")["ETag"]
    assert as_bob.patch(TINY, {"users": 2}, format="json", HTTP_IF_MATCH=tag).status_code == 200
    late = as_bob.patch(TINY, {"users": 3}, format="json", HTTP_IF_MATCH=tag)
    assert (late.status_code, late.json()["code"]) == (412, "changed_meanwhile")
    assert Model.objects.get().users == 2


@pytest.mark.parametrize("tag", ['"abc"', "nonsense", "''"])
def test_an_etag_that_is_none_of_ours_matches_nothing(as_bob: APIClient, tiny: dict[str, Any], tag: str) -> None:
    assert as_bob.put(TINY, tiny, format="json", HTTP_IF_MATCH=tag).status_code == 412
    assert not Model.objects.exists()


def test_a_dry_run_tells_the_change_and_writes_nothing(as_bob: APIClient, tiny: dict[str, Any]) -> None:
    plan = as_bob.put(f"{TINY}?dry_run=true", tiny, format="json").json()
    assert (plan["created"], plan["restarts"], plan["turn"]) == (True, False, 0)
    assert not Model.objects.exists()
    assert not Order.objects.exists()


def test_a_dry_run_says_whether_containers_are_replaced(as_bob: APIClient, tiny: dict[str, Any]) -> None:
    as_bob.put(TINY, {**tiny, "desired": "running"}, format="json")
    more = as_bob.patch(f"{TINY}?dry_run=true", {"replicas": 2}, format="json").json()
    assert (more["restarts"], more["changes"]) == (False, [{"field": "replicas", "before": 1, "after": 2}])
    wider = as_bob.patch(f"{TINY}?dry_run=true", {"context": 1024}, format="json").json()
    assert wider["restarts"] is True
    halt = as_bob.patch(f"{TINY}?dry_run=true", {"context": 1024, "desired": "stopped"}, format="json").json()
    assert halt["restarts"] is False
    assert Model.objects.get().context is None


def test_a_dry_run_says_whether_a_wish_moves_what_runs_and_where_it_would_go(
    as_bob: APIClient, tiny: dict[str, Any]
) -> None:
    as_bob.put(TINY, {**tiny, "desired": "running"}, format="json")
    rows.replica(Model.objects.get())
    Host.objects.update(seen_at=clock.now())
    met = as_bob.patch(f"{TINY}?dry_run=1", {"placement": {"hosts": ["test"]}}, format="json").json()
    assert (met["restarts"], [change["field"] for change in met["changes"]]) == (False, ["placement"])
    moved = as_bob.patch(f"{TINY}?dry_run=1", {"placement": {"labels": {"zone": "cellar"}}}, format="json").json()
    assert moved["restarts"]
    assert moved["estimate"]["goes_to"] is None
    assert "not labelled zone=cellar" in str(moved["estimate"])


def test_a_merge_patch_changes_one_label_of_a_wish(as_bob: APIClient, tiny: dict[str, Any]) -> None:
    as_bob.put(TINY, {**tiny, "placement": {"labels": {"zone": "a", "rack": "1"}, "spread": True}}, format="json")
    spec = as_bob.patch(TINY, {"placement": {"labels": {"zone": None}}}, format="json").json()["spec"]
    assert spec["placement"] == {"cards": [], "hosts": [], "labels": {"rack": "1"}, "spread": True}


def test_a_dry_run_refuses_what_the_write_would(as_bob: APIClient, tiny: dict[str, Any]) -> None:
    as_bob.put(TINY, tiny, format="json")
    assert as_bob.post(f"{MODELS}?dry_run=1", tiny, format="json").status_code == 409
    assert as_bob.put(f"{TINY}?dry_run=1", {**tiny, "engine": "nine"}, format="json").status_code == 400
    assert as_bob.put(f"{TINY}?dry_run=perhaps", tiny, format="json").status_code == 400
    assert as_bob.put(f"{TINY}?dry_run=1", tiny, format="json", HTTP_IF_MATCH='"9"').status_code == 412


def test_a_dry_run_does_not_poke_the_loop(
    as_bob: APIClient, tiny: dict[str, Any], poked: list[int], django_capture_on_commit_callbacks: Any
) -> None:
    with django_capture_on_commit_callbacks(execute=True):
        as_bob.put(f"{TINY}?dry_run=true", tiny, format="json")
    assert poked == []


@pytest.mark.parametrize(("verb", "desired"), [("start", "running"), ("restart", "running"), ("stop", "stopped")])
def test_a_verb_answers_with_an_operation(as_bob: APIClient, tiny: dict[str, Any], verb: str, desired: str) -> None:
    as_bob.put(TINY, tiny, format="json")
    answer = as_bob.post(f"{TINY}/{verb}")
    assert answer.status_code == 202
    operation = as_bob.get(answer["Location"]).json()
    assert (operation["verb"], operation["model"], operation["by"]) == (verb, "tiny", "bob")
    assert Model.objects.get().desired == desired


def test_a_removed_model_is_gone_from_sight_at_once(as_bob: APIClient, tiny: dict[str, Any]) -> None:
    as_bob.put(TINY, tiny, format="json")
    answer = as_bob.delete(TINY)
    assert (answer.status_code, answer.json()["state"]) == (202, "pending")
    assert as_bob.get(TINY).status_code == 404
    assert as_bob.get(MODELS).json() == {"items": [], "next": None}
    Model.objects.all().delete()
    assert as_bob.get(answer["Location"]).json()["state"] == "done"


@pytest.mark.parametrize("method", ["get", "patch", "delete"])
def test_a_model_that_is_not_there_is_named(as_bob: APIClient, method: str) -> None:
    answer = getattr(as_bob, method)("/api/v1/models/nobody")
    assert (answer.status_code, answer.json()["code"]) == (404, "no_such_model")
    assert "'nobody'" in answer.json()["detail"]


def test_the_name_in_the_body_must_be_that_of_the_address(as_bob: APIClient, tiny: dict[str, Any]) -> None:
    assert as_bob.put("/api/v1/models/other", tiny, format="json").status_code == 400


def test_lists_go_on_where_the_cursor_says(as_bob: APIClient, tiny: dict[str, Any]) -> None:
    for name in ("a", "b", "c"):
        as_bob.put(f"{MODELS}/{name}", {**tiny, "name": name}, format="json")
    first = as_bob.get(f"{MODELS}?limit=2").json()
    assert [model["name"] for model in first["items"]] == ["a", "b"]
    rest = as_bob.get(f"{MODELS}?limit=2&cursor={first['next']}").json()
    assert ([model["name"] for model in rest["items"]], rest["next"]) == (["c"], None)


@pytest.mark.parametrize("query", ["cursor=%00", "cursor=AA", "cursor=%C3%A9", "limit=0", "limit=x", "limit=501"])
def test_a_list_query_that_makes_no_sense_is_refused(as_bob: APIClient, query: str) -> None:
    assert as_bob.get(f"{MODELS}?{query}").status_code == 400


def test_a_broker_that_is_down_fails_no_order(
    as_bob: APIClient,
    tiny: dict[str, Any],
    monkeypatch: pytest.MonkeyPatch,
    django_capture_on_commit_callbacks: Any,
) -> None:
    def refuse(*args: Any, **more: Any) -> None:
        raise OperationalError("nobody listens")

    monkeypatch.setattr(tasks.settle_model, "apply_async", refuse)
    with django_capture_on_commit_callbacks(execute=True):
        assert as_bob.put(TINY, tiny, format="json").status_code == 201


def test_a_list_costs_the_same_queries_however_long(
    as_bob: APIClient, tiny: dict[str, Any], django_assert_num_queries: Any
) -> None:
    for name in ("a", "b", "c", "d"):
        as_bob.put(f"{MODELS}/{name}", {**tiny, "name": name}, format="json")
    with django_assert_num_queries(4):  # key, last use, models, replicas (with none, no seats nor attempts)
        as_bob.get(MODELS)
