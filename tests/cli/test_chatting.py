"""Talking to a model from a terminal, through a gateway that answers as OpenAI does."""

import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest

from tests.cli.conftest import Run


class Gateway(BaseHTTPRequestHandler):
    """Says the last message back, letter by letter."""

    asked: list[Any] = []

    def do_GET(self) -> None:
        self._answer(200, json.dumps({"data": [{"id": "tiny"}]}))

    def do_POST(self) -> None:
        asked = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        self.asked.append((self.headers["Authorization"], asked))
        match asked["model"]:
            case "tiny":
                pieces = [{"choices": [{"delta": {"content": letter}}]} for letter in asked["messages"][-1]["content"]]
                self._answer(200, _events([{"choices": []}, *pieces]) + ": a comment\n\ndata: [DONE]\n\n")
            case "broken":
                self._answer(
                    200, _events([{"choices": [{"delta": {"content": "He"}}]}, {"error": {"message": "Gone."}}])
                )
            case name:
                self._answer(404, json.dumps({"error": {"message": f"There is no model named {name!r}."}}))

    def log_message(self, format: str, *args: Any) -> None:
        """Nothing: pytest reads stderr."""

    def _answer(self, status: int, body: str) -> None:
        self.send_response(status)
        self.send_header("Content-Length", str(len(body.encode())))
        self.end_headers()
        self.wfile.write(body.encode())


def _events(events: list[Any]) -> str:
    return "".join(f"data: {json.dumps(event)}\n\n" for event in events)


@pytest.fixture
def chat(run: Run) -> Iterator[Run]:
    Gateway.asked.clear()
    with ThreadingHTTPServer(("127.0.0.1", 0), Gateway) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
        thread.start()
        address = f"http://127.0.0.1:{server.server_port}"
        yield lambda *words, **more: run("--gateway", address, "--token", "ctx_mine", "chat", *words, **more)
        server.shutdown()
        thread.join()


def test_an_answer_is_printed_as_it_comes(chat: Run) -> None:
    result = chat("tiny", "Grüße, world", "--max-tokens", "9")
    assert (result.exit_code, result.stdout, result.stderr) == (0, "Grüße, world\n", "")
    [(key, asked)] = Gateway.asked
    assert (key, asked["stream"], asked["max_tokens"]) == ("Bearer ctx_mine", True, 9)


def test_a_message_may_come_from_a_pipe(chat: Run) -> None:
    assert chat("tiny", input="From a pipe\n").stdout == "From a pipe\n"
    assert chat("tiny", input="").exit_code == 2


def test_a_model_that_does_not_serve_has_its_own_exit_code(chat: Run) -> None:
    result = chat("nobody", "Hello")
    assert result.exit_code == 3
    assert "There is no model named 'nobody'." in result.stderr


def test_an_answer_that_breaks_off_is_a_failure(chat: Run) -> None:
    result = chat("broken", "Hello")
    assert (result.exit_code, result.stdout) == (1, "He")
    assert "Gone." in result.stderr


def test_a_conversation_remembers_what_was_said(chat: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    lines = iter(["one", "", "two"])

    def say(prompt: str) -> str:
        try:
            return next(lines)
        except StopIteration:
            raise EOFError from None

    monkeypatch.setattr("cortex.cli.chatting.is_terminal", lambda: True)
    monkeypatch.setattr("builtins.input", say)
    assert chat("tiny").stdout == "one\ntwo\n"
    _, asked = Gateway.asked[-1]
    assert [message["role"] for message in asked["messages"]] == ["user", "assistant", "user"]


def test_a_gateway_that_is_not_there_is_named(run: Run) -> None:
    result = run("--gateway", "http://127.0.0.1:1", "chat", "tiny", "Hello")
    assert result.exit_code == 1
    assert "http://127.0.0.1:1" in result.stderr
    assert "./dev up" in result.stderr
