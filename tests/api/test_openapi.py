"""The committed OpenAPI document, and the page to try it."""

from pathlib import Path

import pytest
from django.core.management import call_command
from rest_framework.test import APIClient

COMMITTED = Path(__file__).parents[2] / "docs" / "openapi.yaml"
RENEW = "manage.py spectacular --validate --fail-on-warn --file docs/openapi.yaml"


def test_the_committed_document_is_current(tmp_path: Path) -> None:
    fresh = tmp_path / "openapi.yaml"
    call_command("spectacular", "--validate", "--fail-on-warn", "--file", str(fresh))
    assert COMMITTED.read_text() == fresh.read_text(), f"Renew it: {RENEW}"


def test_the_document_is_served_to_all() -> None:
    assert APIClient().get("/api/v1/schema").status_code == 200


@pytest.mark.parametrize("query", ["", "?script="])
def test_the_page_runs_no_script_that_is_written_inline(query: str) -> None:
    page = APIClient().get(f"/api/v1/docs{query}", HTTP_ACCEPT="text/html")
    assert page.status_code == 200
    policy = page["Content-Security-Policy"]
    assert "script-src 'self';" in f"{policy};"
    assert "'unsafe-inline'" in policy.split("style-src")[1].split(";")[0]


def test_other_pages_keep_the_strict_policy() -> None:
    assert "unsafe-inline" not in APIClient().get("/api/v1/health/live")["Content-Security-Policy"]
