"""OpenAI's words: errors as its clients read them, the list of models."""

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

import orjson

LONGEST_ERROR = 64 << 10
TYPES = {400: "invalid_request_error", 401: "invalid_request_error", 403: "permission_denied"}


@dataclass
class Fault(Exception):
    """An answer that is an error. `seconds` says when to try again, `again` whether clients should by themselves."""

    status: int
    code: str | None
    message: str
    param: str | None = None
    seconds: int | None = None
    again: bool | None = None
    type: str = ""
    headers: dict[str, str] = field(default_factory=dict)

    def __str__(self) -> str:
        return self.message

    @property
    def all_headers(self) -> list[tuple[bytes, bytes]]:
        named = {"content-type": "application/json", **self.headers}
        if self.seconds is not None:
            named["retry-after"] = str(self.seconds)
        if self.again is not None:
            named["x-should-retry"] = str(self.again).lower()
        return [(name.encode(), value.encode()) for name, value in named.items()]

    @property
    def body(self) -> bytes:
        return _envelope(self.message, self.type or _type_of(self.status), self.code, self.param)


def _envelope(message: str, type: str, code: str | None, param: str | None = None) -> bytes:
    return orjson.dumps({"error": {"message": message, "type": type, "param": param, "code": code}})


def _type_of(status: int) -> str:
    return TYPES.get(status, "invalid_request_error" if status < 500 else "upstream_error")


def error_event(message: str, code: str) -> bytes:
    """A stream that cannot go on says so: clients raise on it, and no [DONE] follows."""
    return b"data: " + _envelope(message, "upstream_error", code) + b"\n\n"


def engine_fault(status: int, body: bytes, retry_after: str = "") -> Fault:
    """An engine's error as ours: vLLM nests it, SGLang does not, llama.cpp has no `param`, some are plain text."""
    said = _parsed(body)
    nested = said.get("error", said)
    if isinstance(nested, str):
        nested = {"message": nested}
    message = nested.get("message") or said.get("detail") or _text(body) or f"The engine answered {status}."
    type, code, param = nested.get("type"), nested.get("code"), nested.get("param")
    seconds = int(retry_after) if retry_after.isdecimal() else (5 if status == 503 else None)
    return Fault(
        status,
        None if code is None else str(code),
        message if isinstance(message, str) else orjson.dumps(message).decode(),
        param if isinstance(param, str) else None,
        seconds,
        type=type if isinstance(type, str) else "",
    )


def _parsed(body: bytes) -> dict[str, Any]:
    if len(body) > LONGEST_ERROR:
        return {}
    try:
        said = orjson.loads(body)
    except orjson.JSONDecodeError:
        return {}
    return said if isinstance(said, dict) and isinstance(said.get("error", {}), dict | str) else {}


def _text(body: bytes) -> str:
    return body[:2000].decode(errors="replace").strip()


def model(name: str, created: int) -> dict[str, Any]:
    return {"id": name, "object": "model", "created": created, "owned_by": "cortex"}


def model_list(models: Iterable[tuple[str, int]]) -> dict[str, Any]:
    return {"object": "list", "data": [model(name, created) for name, created in models]}
