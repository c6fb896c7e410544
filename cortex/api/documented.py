"""Words for the OpenAPI document that several views share."""

from typing import Any

from drf_spectacular.extensions import OpenApiAuthenticationExtension
from drf_spectacular.utils import OpenApiParameter, OpenApiResponse
from pydantic import BaseModel, create_model

from cortex.api import problems, shapes

DRY_RUN = OpenApiParameter("dry_run", bool, description="Check it and say what would change, writing nothing.")
IF_MATCH = OpenApiParameter(
    "If-Match", str, OpenApiParameter.HEADER, description="The ETag you read; 412 when somebody changed it since."
)
WAIT = OpenApiParameter("wait", str, description="Answer when it is no longer pending, or after this long: `30s`.")
FORCE = OpenApiParameter("force", bool, description="Also when it holds replicas; for administrators.")
PAGE = [
    OpenApiParameter("limit", int, description="At most so many, up to 500."),
    OpenApiParameter("cursor", str, description="`next` of the list before."),
]
MERGE_PATCH = {
    "application/merge-patch+json": {"type": "object", "examples": [{"context": 8192, "options": {"threads": 4}}]},
    "application/json": {"type": "object"},
}
TEXT = {(200, "text/plain"): str}


def page_of(shape: type[BaseModel]) -> Any:
    """A list of these, with the cursor of the next page."""
    name = f"{shape.__name__.removesuffix('Answer')}List"
    return answers({200: create_model(name, items=(list[shape], ...), next=(str | None, ...))})  # type: ignore[valid-type]


def answers(good: dict[Any, Any], *bad: int, also_dry_run: bool = False) -> Any:
    """Responses by status; what everybody may meet is added."""
    if also_dry_run:
        good = {**good, 200: OpenApiResponse(shapes.ModelOrPlan, description="The model; with dry_run, the plan.")}
    wrong = {(code, problems.MEDIA_TYPE): shapes.ProblemAnswer for code in sorted({401, 403, 503, *bad})}
    return {**good, **wrong}


class KeyScheme(OpenApiAuthenticationExtension):  # type: ignore[no-untyped-call]
    """How the OpenAPI document calls our keys."""

    target_class = "cortex.api.authentication.KeyAuthentication"
    name = "key"

    def get_security_definition(self, auto_schema: Any) -> dict[str, str]:
        return {"type": "http", "scheme": "bearer", "description": "A key of scope `manage`: `ctx_…`"}
