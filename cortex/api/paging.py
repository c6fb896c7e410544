"""Lists by cursor: {"items": […], "next": …}, in the order of a column that never repeats."""

from base64 import b64decode, urlsafe_b64encode
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from django.db.models import Model, QuerySet
from rest_framework.request import Request

from cortex.api import reading
from cortex.catalog.definition import Problem, Refusal

Row = TypeVar("Row", bound=Model)
LIMIT = 100
MOST = 500


@dataclass(frozen=True)
class Page(Generic[Row]):
    rows: list[Row]
    next: str | None

    def answer(self, shape: Callable[[Row], Any]) -> dict[str, Any]:
        return {"items": [shape(row) for row in self.rows], "next": self.next}


def page(request: Request, rows: "QuerySet[Row]", column: str, *, newest_first: bool = False) -> Page[Row]:
    """The rows after `?cursor`, at most `?limit` of them. Raises Refusal."""
    limit = reading.number(request, "limit", LIMIT, least=1, most=MOST)
    after = _decode(request.query_params.get("cursor", ""), numeric=newest_first)
    rows = rows.order_by(f"-{column}" if newest_first else column)
    if after:
        rows = rows.filter(**{f"{column}__{'lt' if newest_first else 'gt'}": after})
    found = list(rows[: limit + 1])
    more = len(found) > limit
    return Page(found[:limit], _encode(getattr(found[limit - 1], column)) if more else None)


def whole(items: Iterable[Any]) -> dict[str, Any]:
    """A list that is never long."""
    return {"items": list(items), "next": None}


def _encode(value: object) -> str:
    return urlsafe_b64encode(str(value).encode()).decode().rstrip("=")


def _decode(cursor: str, *, numeric: bool) -> str:
    try:
        value = b64decode(cursor + "=" * (-len(cursor) % 4), altchars=b"-_", validate=True).decode()
    except ValueError:
        value = "\0"
    if "\0" in value or (numeric and value and not (value.isdecimal() and len(value) < 18)):
        problem = Problem("?cursor", "The cursor is not one of ours.", "Send `next` as the list gave it, or none.")
        raise Refusal("The request is not valid.", [problem])
    return value
