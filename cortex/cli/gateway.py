"""The models' own API: OpenAI's words, streamed."""

import json
from collections.abc import Iterator
from typing import Any

import httpx2

from cortex.cli.failures import Exit, Failure
from cortex.cli.login import Login

PATIENCE = httpx2.Timeout(600, connect=5)
Message = dict[str, str]


def models(login: Login) -> list[str]:
    """Names of those that answer. Raises Failure."""
    try:
        answer = httpx2.get(f"{login.gateway}/v1/models", headers=_headers(login), timeout=5)
    except httpx2.RequestError as error:
        raise _unreachable(login, error) from error
    if answer.is_error:
        raise _refused(answer)
    try:
        return [model["id"] for model in answer.json()["data"]]
    except (ValueError, KeyError, TypeError) as error:
        raise _strange(login) from error


def stream(login: Login, model: str, messages: list[Message], limit: int | None) -> Iterator[str]:
    """An answer, piece by piece. Raises Failure."""
    body: dict[str, Any] = {"model": model, "messages": messages, "stream": True}
    if limit:
        body["max_tokens"] = limit
    url = f"{login.gateway}/v1/chat/completions"
    try:
        with httpx2.stream("POST", url, json=body, headers=_headers(login), timeout=PATIENCE) as answer:
            if answer.is_error:
                answer.read()
                raise _refused(answer)
            yield from filter(None, map(_piece, answer.iter_lines()))
    except httpx2.RequestError as error:
        raise _unreachable(login, error) from error


def _piece(line: str) -> str:
    data = line.removeprefix("data:").strip()
    if not line.startswith("data:") or data == "[DONE]":
        return ""
    event = json.loads(data)
    if "error" in event:
        raise Failure("The answer broke off.", str(event["error"].get("message", event["error"])), "Ask again.")
    choices = event.get("choices") or [{}]
    delta = choices[0].get("delta") or {}
    return str(delta.get("content") or delta.get("reasoning_content") or "")


def _headers(login: Login) -> dict[str, str]:
    return {"Authorization": f"Bearer {login.token}"} if login.token else {}


def _refused(answer: httpx2.Response) -> Failure:
    try:
        error = answer.json()["error"]
        why = str(error["message"])
    except (ValueError, KeyError, TypeError):
        why = f"It answered {answer.status_code}."
    next = {401: "Use a key of scope 'infer': cortex keys issue NAME --scope infer --scope manage",
            404: "See which models serve: cortex ps"}.get(answer.status_code, "See: cortex ps")  # fmt: skip
    codes = {404: Exit.NOT_FOUND}
    code = codes.get(answer.status_code, Exit.REFUSED if answer.status_code < 500 else Exit.FAILED)
    return Failure("The gateway refused.", why, next, code)


def _unreachable(login: Login, error: Exception) -> Failure:
    next = "Start it with: ./dev up   or name the right address: --gateway, CORTEX_GATEWAY"
    return Failure(f"The gateway cannot be reached at {login.gateway}.", str(error), next)


def _strange(login: Login) -> Failure:
    return Failure(f"{login.gateway} does not answer as the gateway does.", next="Check CORTEX_GATEWAY.")
