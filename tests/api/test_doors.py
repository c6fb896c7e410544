"""Who gets in: every address refuses strangers, roles hold, and every refusal is a problem in words."""

from datetime import timedelta
from typing import Any

import pytest
from django.db import OperationalError
from django.urls import URLPattern
from django.utils import timezone
from rest_framework.test import APIClient

from cortex.access.models import ApiKey, Person, Scope
from cortex.api.urls import urlpatterns
from cortex.catalog.models import Model
from tests.conftest import key_of

TINY = "/api/v1/models/tiny"
OPEN = {"health", "live", "problem", "schema", "docs"}
SAMPLES = {"<name:name>": "tiny", "<int:id>": "1", "<slug:code>": "invalid"}
METHODS = ["get", "post", "put", "patch", "delete", "head", "options"]


def address(pattern: URLPattern) -> str:
    text = str(pattern.pattern)
    for part, sample in SAMPLES.items():
        text = text.replace(part, sample)
    return f"/api/v1/{text}"


@pytest.mark.django_db
@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("pattern", [p for p in urlpatterns if p.name not in OPEN], ids=lambda p: p.name)
def test_every_address_refuses_strangers(pattern: URLPattern, method: str) -> None:
    answer = getattr(APIClient(), method)(address(pattern))
    assert answer.status_code == 401
    assert answer["WWW-Authenticate"].startswith("Bearer")


def test_a_session_opens_nothing_here(alice: Person) -> None:
    client = APIClient()
    client.force_login(alice)
    assert client.get("/api/v1/models").status_code == 401


@pytest.mark.parametrize(
    ("header", "code"),
    [
        ("Bearer ctx_00000000_nothing", "bad_key"),
        ("Bearer nonsense", "bad_key"),
        ("Bearer ", "bad_key"),
        ("Basic YTpi", "bad_key"),
        ("Bearer ctx_é", "bad_key"),
        ("", "no_key"),
    ],
)
@pytest.mark.django_db
def test_a_key_that_is_not_good_is_a_problem_in_words(header: str, code: str) -> None:
    answer = APIClient().get(TINY, HTTP_AUTHORIZATION=header, HTTP_X_REQUEST_ID="mine-1")
    assert (answer.status_code, answer["Content-Type"]) == (401, "application/problem+json")
    problem = answer.json()
    assert (problem["code"], problem["request_id"], problem["instance"]) == (code, "mine-1", TINY)
    assert all(problem[word] for word in ("title", "detail", "remedy"))


def test_a_key_ends_when_it_is_revoked_expires_or_its_owner_leaves(bob: Person) -> None:
    def status(secret: str) -> int:
        return int(APIClient().get("/api/v1/models", HTTP_AUTHORIZATION=f"Bearer {secret}").status_code)

    key, secret = ApiKey.objects.issue(bob, "one", ["manage"])
    assert status(secret) == 200
    key.revoke()
    assert status(secret) == 401
    past = timezone.now() - timedelta(seconds=1)
    assert status(ApiKey.objects.issue(bob, "two", ["manage"], past)[1]) == 401
    live = key_of(bob)
    Person.objects.update(is_active=False)
    assert status(live) == 401


def test_a_key_for_the_models_alone_does_not_manage_them(bob: Person) -> None:
    answer = APIClient().get("/api/v1/models", HTTP_AUTHORIZATION=f"Bearer {key_of(bob, Scope.INFER)}")
    assert (answer.status_code, answer.json()["code"]) == (403, "forbidden")
    assert "manage" in answer.json()["detail"]


def test_the_use_of_a_key_is_noted(as_bob: APIClient) -> None:
    as_bob.get("/api/v1/models")
    assert ApiKey.objects.get().last_used_at is not None


def test_a_viewer_looks_and_changes_nothing(as_bob: APIClient, as_charlie: APIClient, tiny: dict[str, Any]) -> None:
    as_bob.put(TINY, tiny, format="json")
    assert as_charlie.get(TINY).status_code == 200
    refused = [
        as_charlie.put(TINY, tiny, format="json"),
        as_charlie.patch(TINY, {"users": 9}, format="json"),
        as_charlie.put(f"{TINY}?dry_run=true", tiny, format="json"),
        as_charlie.post("/api/v1/models", {**tiny, "name": "other"}, format="json"),
        *(as_charlie.post(f"{TINY}/{verb}") for verb in ("start", "stop", "restart")),
        as_charlie.delete(TINY),
    ]
    assert {answer.status_code for answer in refused} == {403}
    assert "operator" in refused[0].json()["detail"]
    assert (Model.objects.get().turn, Model.objects.get().users) == (1, None)


@pytest.mark.parametrize(
    ("method", "path", "more", "status", "code"),
    [
        ("put", TINY, {"data": "{oops", "content_type": "application/json"}, 400, "malformed"),
        ("put", TINY, {"data": "[1]", "content_type": "application/json"}, 400, "invalid"),
        ("put", TINY, {"data": "null", "content_type": "application/json"}, 400, "invalid"),
        ("put", TINY, {"data": b"\xff\xfe", "content_type": "application/json"}, 400, "malformed"),
        ("put", TINY, {"data": "a=1", "content_type": "application/x-www-form-urlencoded"}, 415, "wrong_media_type"),
        ("get", TINY, {"HTTP_ACCEPT": "text/html"}, 406, "not_acceptable"),
        ("put", "/api/v1/models", {}, 405, "wrong_method"),
        ("get", f"{TINY}/start", {}, 405, "wrong_method"),
        ("get", "/api/v1/nowhere", {}, 404, "not_found"),
        ("get", "/api/v1/", {}, 404, "not_found"),
        ("get", "/api/v1/operations/9", {}, 404, "not_found"),
        ("get", f"/api/v1/operations/{10**30}", {}, 404, "not_found"),
        ("get", "/api/v1/operations/1?wait=soon", {}, 404, "not_found"),
        ("get", "/api/v1/models/a%00b", {}, 404, "not_found"),
    ],
)
def test_every_refusal_is_a_problem(
    as_bob: APIClient, method: str, path: str, more: dict[str, Any], status: int, code: str
) -> None:
    answer = getattr(as_bob, method)(path, **more)
    assert (answer.status_code, answer["Content-Type"]) == (status, "application/problem+json")
    problem = answer.json()
    assert (problem["code"], problem["status"]) == (code, status)
    assert as_bob.get(problem["type"]).json()["code"] == code
    assert problem["request_id"] == answer["X-Request-Id"]


def test_text_that_cannot_be_stored_is_refused(as_bob: APIClient, tiny: dict[str, Any]) -> None:
    source = {"repository": "a/b", "revision": "x\0y"}
    answer = as_bob.put(TINY, {**tiny, "source": source}, format="json")
    assert (answer.status_code, answer.json()["code"]) == (400, "invalid")
    assert not Model.objects.exists()


def test_a_database_that_is_down_is_said_in_words(as_bob: APIClient, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*args: Any) -> None:
        raise OperationalError("connection refused: secret-host")

    monkeypatch.setattr("cortex.api.authentication.ApiKey.objects.find", fail)
    answer = as_bob.get("/api/v1/models")
    assert (answer.status_code, answer.json()["code"]) == (503, "database_unreachable")
    assert answer["Retry-After"] == "5"
    assert "secret-host" not in answer.content.decode()


def test_an_unexpected_error_keeps_its_trace_to_the_log(
    as_bob: APIClient, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def fail(*args: Any) -> None:
        raise ZeroDivisionError("inner words")

    monkeypatch.setattr("cortex.api.views.models.answers.models", fail)
    answer = as_bob.get("/api/v1/models")
    assert (answer.status_code, answer.json()["code"]) == (500, "internal")
    assert "inner words" not in answer.content.decode()
    assert "ZeroDivisionError" in caplog.text
    assert answer["X-Request-Id"] in caplog.text


def test_a_request_id_that_could_forge_a_log_line_is_replaced(as_bob: APIClient) -> None:
    answer = as_bob.get("/api/v1/models", HTTP_X_REQUEST_ID="a b\tc")
    assert answer["X-Request-Id"].isalnum()
