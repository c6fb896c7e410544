"""What a request says, checked: bodies, query parameters, conditions."""

import re
from collections.abc import Mapping
from typing import IO, Any, TypeVar

from pydantic import BaseModel, ValidationError
from rest_framework.exceptions import ParseError
from rest_framework.parsers import JSONParser
from rest_framework.request import Request

from cortex.catalog.definition import Problem, Refusal, as_problem

Shape = TypeVar("Shape", bound=BaseModel)
WAIT_CAP = 30.0
YES = {"1", "true", "yes", "on", ""}
NO = {"0", "false", "no", "off"}


class JsonParser(JSONParser):
    """JSON; nesting deeper than the reader's stack is the sender's mistake."""

    def parse(
        self, stream: IO[Any], media_type: str | None = None, parser_context: Mapping[str, Any] | None = None
    ) -> Any:
        try:
            return super().parse(stream, media_type, parser_context)
        except RecursionError:
            raise ParseError("The body is nested too deeply.") from None


class MergePatchParser(JsonParser):
    """RFC 7396."""

    media_type = "application/merge-patch+json"


def body(request: Request) -> Mapping[str, Any]:
    """The JSON object that was sent. Raises Refusal."""
    if not isinstance(request.data, Mapping):
        problem = Problem("", "The body is not a JSON object.", 'Send an object such as {"engine": "llamacpp"}.')
        raise Refusal("The request is not valid.", [problem])
    return request.data


def into(shape: type[Shape], data: Mapping[str, Any]) -> Shape:
    """The words as a value; unknown fields are refused. Raises Refusal."""
    try:
        return shape.model_validate(dict(data))
    except ValidationError as error:
        raise Refusal("The request is not valid.", [as_problem(e, "") for e in error.errors()]) from error


def only(request: Request, *known: str) -> None:
    """Refuse query words that nobody reads: a misspelt `dry_run` would really write. Raises Refusal."""
    for name in request.query_params:
        if name not in known:
            problem = Problem(f"?{name}", f"{name[:50]!r} is not known here.", _known(known))
            raise Refusal("The request is not valid.", [problem])


def _known(names: tuple[str, ...]) -> str:
    return f"Known are: {', '.join(names)}." if names else "This address takes no query."


def flag(request: Request, name: str) -> bool:
    """Whether `?name=true` was asked for. Raises Refusal."""
    text = request.query_params.get(name, "0").lower()
    if text not in YES | NO:
        raise _bad(name, text, "Write true or false.")
    return text in YES


def number(request: Request, name: str, default: int, *, least: int, most: int) -> int:
    """A whole number within bounds. Raises Refusal."""
    text = request.query_params.get(name, str(default))
    if not re.fullmatch(r"\d{1,9}", text) or not least <= int(text) <= most:
        raise _bad(name, text, f"Write a whole number from {least} to {most}.")
    return int(text)


def wait(request: Request) -> float:
    """Seconds to wait, at most 30: `?wait=10`, `?wait=10s`. Raises Refusal."""
    text = request.query_params.get("wait", "0")
    if not re.fullmatch(r"\d{1,6}(\.\d{1,3})?s?", text):
        raise _bad("wait", text, "Write seconds, as in wait=30s.")
    return min(float(text.rstrip("s")), WAIT_CAP)


def expected_turn(request: Request) -> int | None:
    """The turn of the If-Match header; None when any will do. Raises Refusal."""
    tag = request.headers.get("If-Match", "*").strip()
    if tag == "*":
        return None
    if not (match := re.fullmatch(r'(W/)?"?(\d{1,18})"?', tag)):
        problem = Problem("", f"If-Match is {tag!r}, which is no ETag of a model.", 'Send the ETag you got, as "7".')
        raise Refusal("The model has changed meanwhile.", [problem], status=412)
    return int(match[2])


def must_be_new(request: Request) -> bool:
    return request.headers.get("If-None-Match", "").strip() == "*"


def _bad(name: str, text: str, remedy: str) -> Refusal:
    return Refusal("The request is not valid.", [Problem(f"?{name}", f"{text!r} is not good for {name}.", remedy)])
