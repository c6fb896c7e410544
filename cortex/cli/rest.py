"""Cortex over REST: one client, and every failure in words."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any
from urllib.parse import quote

import httpx2

from cortex.cli.failures import Exit, Failure
from cortex.cli.login import Login

API = "/api/v1"
WAITS = httpx2.Timeout(40, connect=5)
WITHOUT_END = httpx2.Timeout(None, connect=5)
CODES = {404: Exit.NOT_FOUND}
Query = Mapping[str, str | int | bool]


def model_path(name: str, *more: str) -> str:
    return "/".join(["models", quote(name, safe=":"), *more])


class Rest:
    """Speaks to one Cortex with one key."""

    def __init__(self, login: Login) -> None:
        self.login = login
        headers = {"Authorization": f"Bearer {login.token}"} if login.token else {}
        try:
            self._client = httpx2.Client(base_url=login.url, headers=headers, timeout=WAITS)
        except (httpx2.InvalidURL, ValueError) as error:
            raise _bad_login(login, error) from error

    def close(self) -> None:
        self._client.close()

    def get(self, path: str, query: Query | None = None) -> Any:
        return self._ask("GET", path, params=query).json()

    def text(self, path: str, query: Query) -> str:
        return self._ask("GET", path, params=query).text

    def every(self, path: str, query: Query | None = None) -> list[dict[str, Any]]:
        """All items of a list, page after page."""
        items: list[dict[str, Any]] = []
        page = self.get(path, query)
        while True:
            items += page["items"]
            if not page["next"]:
                return items
            page = self.get(path, {**(query or {}), "cursor": page["next"]})

    def post(self, path: str, body: Any = None) -> Any:
        return self._ask("POST", path, json=body).json()

    def put(self, path: str, body: Any, *, dry_run: bool = False, turn: int | None = None) -> Any:
        query = {"dry_run": "true"} if dry_run else None
        headers = {"If-Match": f'"{turn}"'} if turn is not None else None
        return self._ask("PUT", path, json=body, params=query, headers=headers).json()

    def patch(self, path: str, patch: Any) -> Any:
        return self._ask("PATCH", path, json=patch).json()

    def delete(self, path: str, query: Query | None = None) -> Any:
        return self._ask("DELETE", path, params=query).json()

    @contextmanager
    def lines(self, path: str, query: Query) -> Iterator[Iterator[str]]:
        """Lines of a text that may never end."""
        with (
            _words_for(self.login.url),
            self._client.stream("GET", f"{API}/{path}", params=query, timeout=WITHOUT_END) as answer,
        ):
            if answer.is_error:
                answer.read()
                raise failure(answer)
            yield answer.iter_lines()

    def _ask(self, method: str, path: str, **more: Any) -> httpx2.Response:
        with _words_for(self.login.url):
            answer = self._client.request(method, f"{API}/{path}", **more)
        if answer.is_error and path != "health":
            raise failure(answer)
        if "json" not in answer.headers.get("Content-Type", "json") and not path.endswith("logs"):
            raise _not_cortex(self.login.url)
        return answer


@contextmanager
def _words_for(url: str) -> Iterator[None]:
    try:
        yield
    except httpx2.TimeoutException as error:
        why = "It took the connection and did not answer in time." if str(error) else "It did not answer in time."
        raise Failure(f"Cortex at {url} is too slow.", why, "Try again, or run: cortex doctor", Exit.TIMEOUT) from error
    except httpx2.RequestError as error:
        next = "Start it with: ./dev up   or name the right address: --url, CORTEX_URL, or cortex login"
        raise Failure(f"Cortex cannot be reached at {url}.", str(error), next) from error


def failure(answer: httpx2.Response) -> Failure:
    """A refusal in the words of the API."""
    try:
        problem = answer.json()
        errors = problem["errors"]
        what = f"{problem['title']}"
        why = "\n".join(_place(error) for error in errors) or problem["detail"]
        next = "" if any(error["remedy"] for error in errors) else problem["remedy"]
    except (ValueError, KeyError, TypeError):
        return _not_cortex(str(answer.request.url))
    if answer.status_code == 401:
        next = "Run: cortex login   or set CORTEX_TOKEN to a key of scope 'manage' (the UI issues them)."
    return Failure(what, why, next, CODES.get(answer.status_code, _by_class(answer.status_code)))


def _place(error: Mapping[str, str]) -> str:
    place = f"{error['pointer']}: " if error["pointer"] else ""
    return f"{place}{error['detail']} {error['remedy']}".rstrip()


def _by_class(status: int) -> Exit:
    return Exit.REFUSED if status < 500 else Exit.FAILED


def _not_cortex(url: str) -> Failure:
    return Failure(
        f"{url} does not answer as Cortex does.",
        "Something else listens there, or a proxy stands between.",
        "Name the address of the web process: --url or CORTEX_URL.",
    )


def _bad_login(login: Login, error: Exception) -> Failure:
    return Failure(f"The address {login.url!r} or its key is not usable.", str(error), "Run: cortex login", Exit.USAGE)
