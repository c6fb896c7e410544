import time
from collections.abc import Callable

import httpx2
import pytest

from tools import demo
from tools.running import Running

RUNNING = Running(pid=1, web="http://web", gateway="http://gateway", pretend=False, environment={})


def gateway(monkeypatch: pytest.MonkeyPatch, answer: Callable[[httpx2.Request], httpx2.Response]) -> None:
    """The gateway answers so."""
    transport, client = httpx2.MockTransport(answer), httpx2.Client
    monkeypatch.setattr(httpx2, "Client", lambda **how: client(**how, transport=transport))
    monkeypatch.setattr(time, "sleep", lambda seconds: None)


def test_the_question_waits_until_the_gateway_knows_the_model_too(monkeypatch: pytest.MonkeyPatch) -> None:
    codes = [503, 503, 200]
    gateway(monkeypatch, lambda request: httpx2.Response(codes.pop(0)))
    demo._wait_for_the_door(RUNNING, "ctx_x")
    assert codes == []
