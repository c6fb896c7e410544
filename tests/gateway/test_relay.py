"""What the relay does with engines that fail, die, refuse and stall, through the real gateway."""

import asyncio
import json
import time
from concurrent.futures import ThreadPoolExecutor
from typing import Any
from uuid import uuid4

import httpx2
import pytest
from django.utils import timezone

from cortex.catalog.models import Model
from cortex.fleet.models import Replica
from cortex.fleet.states import Phase
from cortex.gateway.client import Client, Gone, Message
from cortex.gateway.metering import Usage
from cortex.gateway.openai import Fault
from cortex.gateway.question import read
from cortex.gateway.relay import Call, Limits, Relay, session
from cortex.gateway.routing import REFRESH_EVERY, Route, Router, Target
from tests.fakes.engines import USAGE, WORDS, FakeEngine
from tests.gateway.conftest import Door, declare

Json = dict[str, Any]


def ask(door: Door, key: str, path: str = "/v1/chat/completions", **said: Any) -> httpx2.Response:
    body = {"model": "tiny", "messages": [], **said}
    return httpx2.post(f"{door.url}{path}", json=body, headers={"authorization": f"Bearer {key}"}, timeout=20)


def error(answer: httpx2.Response) -> Json:
    assert answer.headers["content-type"] == "application/json"
    found: Json = answer.json()["error"]
    assert set(found) == {"message", "type", "param", "code"}
    return found


@pytest.fixture
def pair(served: Door, key: str, engine: FakeEngine, other_engine: FakeEngine) -> Door:
    """A model `pair` with two replicas."""
    declare("pair", engine.address, other_engine.address)
    served.wait_for(key, "tiny", "pair")
    return served


def test_a_replica_that_cannot_be_reached_is_passed_over(served: Door, key: str, engine: FakeEngine) -> None:
    declare("half", "127.0.0.1:9", engine.address)
    served.wait_for(key, "tiny", "half")
    assert [ask(served, key, model="half").status_code for _ in range(10)] == [200] * 10


NOWHERE = "127.0.0.1:9"


def test_what_was_stopped_a_moment_ago_is_said_to_be_stopped(served: Door, key: str) -> None:
    declare("brief", NOWHERE)
    replica = Replica.objects.filter(model__name="brief")
    for _ in range(4):
        replica.update(draining_at=None)
        served.wait_for(key, "tiny", "brief")
        replica.update(draining_at=timezone.now())  # the routes may not tell for a second
        answer = ask(served, key, model="brief")
        assert (answer.status_code, error(answer)["code"]) == (503, "model_loading")


def test_what_has_moved_a_moment_ago_is_found(served: Door, key: str, engine: FakeEngine) -> None:
    declare("mover", NOWHERE)
    replica = Replica.objects.filter(model__name="mover")
    for _ in range(4):
        replica.update(address=NOWHERE)
        time.sleep(REFRESH_EVERY + 0.2)
        replica.update(address=engine.address)
        assert ask(served, key, model="mover").status_code == 200


def test_an_engine_that_hangs_up_because_it_was_stopped_is_said_to_be_stopped(
    served: Door, key: str, engine: FakeEngine
) -> None:
    Replica.objects.filter(model__name="tiny").update(draining_at=timezone.now())
    Model.objects.filter(name="tiny").update(desired="stopped")
    engine.behave(hang_up=10)
    answer = ask(served, key)
    assert (answer.status_code, error(answer)["code"]) == (503, "model_not_running")


@pytest.mark.parametrize("manners", [{"hang_up": 1}, {"status": 503, "body": "busy"}, {"die_after": 0}])
def test_a_replica_that_fails_before_the_first_byte_is_replaced_by_another(
    pair: Door, key: str, engine: FakeEngine, other_engine: FakeEngine, manners: Json
) -> None:
    engine.behave(**manners)
    until = time.monotonic() + 6
    while not engine.seen:
        assert time.monotonic() < until, "the failing replica was never asked"
        answer = ask(pair, key, model="pair", stream=True)
        assert answer.status_code == 200
        assert answer.text.endswith("data: [DONE]\n\n")


def test_a_refusal_is_not_carried_to_another_replica(
    pair: Door, key: str, engine: FakeEngine, other_engine: FakeEngine
) -> None:
    for one in (engine, other_engine):
        one.behave(status=400, body={"error": {"message": "context too long", "type": "BadRequestError", "code": 400}})
    assert error(ask(pair, key, model="pair"))["message"] == "context too long"
    assert len(engine.seen) + len(other_engine.seen) == 1


def test_a_request_that_ends_its_engine_is_tried_twice_at_most(served: Door, key: str, engine: FakeEngine) -> None:
    engine.behave(hang_up=10)
    answer = ask(served, key)
    assert (answer.status_code, len(engine.seen)) == (502, 2)
    assert "tiny" in error(answer)["message"]


def test_an_idle_connection_that_the_engine_dropped_costs_nothing(served: Door, key: str, engine: FakeEngine) -> None:
    engine.behave(hang_up=1)
    assert ask(served, key).status_code == 200


@pytest.mark.parametrize(
    ("status", "body", "said"),
    [
        (400, {"error": {"message": "too long", "type": "BadRequestError", "param": None, "code": 400}},
         {"message": "too long", "type": "BadRequestError", "param": None, "code": "400"}),
        (400, {"object": "error", "message": "flat", "type": "BadRequestError", "param": None, "code": 400},
         {"message": "flat", "type": "BadRequestError", "param": None, "code": "400"}),
        (503, {"error": {"code": 503, "message": "Loading model", "type": "unavailable_error"}},
         {"message": "Loading model", "type": "unavailable_error", "param": None, "code": "503"}),
        (422, {"error": "Input validation error", "error_type": "validation"},
         {"message": "Input validation error", "type": "invalid_request_error", "param": None, "code": None}),
        (500, "Internal Server Error",
         {"message": "Internal Server Error", "type": "upstream_error", "param": None, "code": None}),
    ],
)  # fmt: skip
def test_engines_errors_come_in_one_envelope(
    served: Door, key: str, engine: FakeEngine, status: int, body: Any, said: Json
) -> None:
    engine.behave(status=status, body=body)
    answer = ask(served, key, stream=True)
    assert (answer.status_code, error(answer)) == (status, said)
    assert ("retry-after" in answer.headers) == (status == 503)


@pytest.mark.parametrize("manners", [{"die_after": 2}, {"leave_out_done": True}])
def test_a_stream_that_dies_says_so_and_never_looks_done(
    served: Door, key: str, engine: FakeEngine, manners: Json
) -> None:
    engine.behave(pace=0.02, **manners)
    answer = ask(served, key, stream=True)
    last = json.loads(answer.text.strip().split("\n\n")[-1].removeprefix("data: "))
    assert "cut off" in last["error"]["message"]
    assert "[DONE]" not in answer.text
    assert answer.text.count("data:") == len(WORDS[: manners.get("die_after")]) + 1


def test_headers_are_clean_both_ways(served: Door, key: str, engine: FakeEngine) -> None:
    engine.behave(headers={"set-cookie": "a=b", "server": "engine", "x-secret": "1"})
    headers = {"authorization": f"Bearer {key}", "cookie": "s=1", "x-request-id": "abc-1", "x-api-key": "k"}
    answer = httpx2.post(f"{served.url}/v1/chat/completions", json={"model": "tiny", "stream": True}, headers=headers)
    assert answer.headers["x-request-id"] == engine.last.headers["x-request-id"] == "abc-1"
    assert answer.headers["content-type"] == "text/event-stream; charset=utf-8"
    assert answer.headers["cache-control"] == "no-cache"
    assert answer.headers["x-accel-buffering"] == "no"
    assert not {"set-cookie", "x-secret"} & set(answer.headers)
    assert not {"authorization", "cookie", "x-api-key", "accept-encoding"} & set(engine.last.headers)


def test_a_request_id_that_could_do_harm_is_replaced(served: Door, key: str, engine: FakeEngine) -> None:
    headers = {"authorization": f"Bearer {key}", "x-request-id": "a b;c"}
    answer = httpx2.post(f"{served.url}/v1/chat/completions", json={"model": "tiny"}, headers=headers)
    assert answer.headers["x-request-id"].startswith("req_")


def test_a_body_that_needs_no_change_arrives_byte_by_byte(served: Door, key: str, engine: FakeEngine) -> None:
    raw = b'{ "model": "tiny",\n "messages": [],  "seed": 123456789012345678901234567890 }'
    headers = {"authorization": f"Bearer {key}"}
    assert httpx2.post(f"{served.url}/v1/chat/completions", content=raw, headers=headers).status_code == 200
    assert engine.last.raw == raw


@pytest.mark.parametrize(
    ("raw", "status", "code"),
    [
        (b"{not json", 400, "invalid_json"),
        (b"", 400, "invalid_json"),
        (b"[1]", 400, "invalid_json"),
        (b'{"messages": []}', 400, "missing_model"),
        (b'{"model": 7}', 400, "missing_model"),
        (b" " * 2_000_001, 413, "request_too_large"),
    ],
)
def test_a_body_that_makes_no_sense_is_refused(
    served: Door, key: str, engine: FakeEngine, raw: bytes, status: int, code: str
) -> None:
    headers = {"authorization": f"Bearer {key}"}
    answer = httpx2.post(f"{served.url}/v1/chat/completions", content=raw, headers=headers)
    assert (answer.status_code, error(answer)["code"]) == (status, code)
    assert not engine.seen


def test_a_large_body_passes(served: Door, key: str, engine: FakeEngine) -> None:
    assert ask(served, key, picture="x" * 1_900_000).status_code == 200
    assert len(engine.last.body["picture"]) == 1_900_000


def test_wrong_methods_and_paths_are_told_apart(served: Door, key: str) -> None:
    headers = {"authorization": f"Bearer {key}"}
    wrong = httpx2.get(f"{served.url}/v1/chat/completions", headers=headers)
    assert (wrong.status_code, wrong.headers["allow"], error(wrong)["code"]) == (405, "POST", "method_not_allowed")
    lost = httpx2.get(f"{served.url}/v1/nothing", headers=headers)
    assert (lost.status_code, error(lost)["code"]) == (404, "unknown_url")


@pytest.mark.parametrize("path", ["/v1/models", "/v1/models/tiny", "/v1/chat/completions", "/", "/metrics", "/v1/x"])
def test_nothing_but_health_opens_without_a_key(served: Door, path: str) -> None:
    for method in ("GET", "POST", "PUT", "DELETE"):
        answer = httpx2.request(method, f"{served.url}{path}")
        assert (answer.status_code, error(answer)["code"]) == (401, "invalid_api_key")
    assert httpx2.get(f"{served.url}/health").status_code == 200


def test_fifty_streams_at_once(served: Door, key: str, engine: FakeEngine) -> None:
    engine.behave(words=tuple(f" w{n}" for n in range(40)), pace=0.01)

    async def one(client: httpx2.AsyncClient) -> str:
        body = {"model": "tiny", "messages": [], "stream": True}
        answer = await client.post("/v1/chat/completions", json=body)
        events = [json.loads(line[6:]) for line in answer.text.split("\n\n") if line and line != "data: [DONE]"]
        return "".join(event["choices"][0]["delta"]["content"] for event in events)

    async def all_of_them() -> list[str]:
        headers = {"authorization": f"Bearer {key}"}
        limits = httpx2.Limits(max_connections=50)
        async with httpx2.AsyncClient(base_url=served.url, headers=headers, limits=limits, timeout=30) as client:
            return await asyncio.gather(*(one(client) for _ in range(50)))

    assert asyncio.run(all_of_them()) == ["".join(f" w{n}" for n in range(40))] * 50


def test_usage_is_logged_for_streams_and_whole_answers(served: Door, key: str, engine: FakeEngine) -> None:
    ids = {"stream": f"s{time.monotonic_ns()}", "whole": f"w{time.monotonic_ns()}"}
    for kind, request in ids.items():
        headers = {"authorization": f"Bearer {key}", "x-request-id": request}
        body = {"model": "tiny", "stream": kind == "stream"}
        httpx2.post(f"{served.url}/v1/completions", json=body, headers=headers)
    time.sleep(1.5)
    lines = [
        line.split("cortex.gateway.usage ")[1] for line in served.log.read_text().splitlines() if "usage {" in line
    ]
    records = {record["request"]: record for record in map(json.loads, lines)}
    for request in ids.values():
        assert records[request]["prompt_tokens"] == USAGE["prompt_tokens"]
        assert records[request]["completion_tokens"] == USAGE["completion_tokens"]
        assert records[request]["key"] == key.split("_")[1]
    assert key not in served.log.read_text()


def test_a_lost_database_stops_nobody_who_was_known(served: Door, key: str, engine: FakeEngine) -> None:
    assert ask(served, key).status_code == 200
    served.line.cut()
    try:
        until = time.monotonic() + 8
        slowest = 0.0
        while time.monotonic() < until:
            began = time.monotonic()
            assert ask(served, key).status_code == 200
            slowest = max(slowest, time.monotonic() - began)
            time.sleep(0.1)
        assert slowest < 3
        assert "does not answer" in httpx2.get(f"{served.url}/health").json()["database"]
        stranger = ask(served, "ctx_00000000_stranger")
        assert (stranger.status_code, error(stranger)["code"]) == (503, "keys_unavailable")
    finally:
        served.line.mend()
    until = time.monotonic() + 15
    while httpx2.get(f"{served.url}/health").json()["database"] != "ok":
        assert time.monotonic() < until
        time.sleep(0.2)


class Line:
    """A client in this process: what it is sent, when it hangs up."""

    def __init__(self) -> None:
        self.sent: list[Message] = []
        self.left = asyncio.Event()
        self.asked = False

    async def receive(self) -> Message:
        if not self.asked:
            self.asked = True
            return {"type": "http.request", "body": b"{}", "more_body": False}
        await self.left.wait()
        return {"type": "http.disconnect"}

    async def send(self, message: Message) -> None:
        self.sent.append(message)

    def client(self, path: str = "/v1/chat/completions") -> Client:
        return Client({"method": "POST", "path": path, "headers": []}, self.receive, self.send)


async def carried(engine: FakeEngine, client: Client, limits: Limits) -> Usage:
    """One streamed call carried in this process."""
    route = Route("tiny", "tiny", 0, (Target(uuid4(), engine.address),), Phase.SERVING, "")
    usage = Usage("r", "/v1/chat/completions", "k", "tiny", stream=True)
    await client.body(1000)
    with ThreadPoolExecutor(1) as threads:
        async with session() as shared:
            relay = Relay(shared, Router(dict, threads), limits)
            await relay.carry(Call(client, route, b'{"model":"tiny","stream":true}', True, usage))
    return usage


async def test_an_engine_that_never_begins_is_a_timeout(engine: FakeEngine) -> None:
    engine.behave(before_first=5)
    with pytest.raises(Fault, match="did not answer within") as caught:
        await carried(engine, Line().client(), Limits(first_byte=0.2))
    assert (caught.value.status, caught.value.again) == (504, False)


async def test_a_stream_that_stalls_is_cut_with_a_word(engine: FakeEngine) -> None:
    engine.behave(pace=5)
    line = Line()
    usage = await carried(engine, line.client(), Limits(stall=0.3))
    assert b"sent nothing" in line.sent[-1]["body"]
    assert usage.outcome == "stalled"


async def test_a_slow_stream_outlives_the_time_for_its_first_byte(engine: FakeEngine) -> None:
    engine.behave(pace=0.1, words=("w",) * 10)
    line = Line()
    usage = await carried(engine, line.client(), Limits(first_byte=0.5, stall=5))
    assert usage.outcome == "ok"
    assert b"[DONE]" in b"".join(message.get("body", b"") for message in line.sent)


async def test_a_client_that_leaves_ends_the_call_and_is_told_nothing(engine: FakeEngine) -> None:
    engine.behave(pace=5)
    line = Line()
    asyncio.get_running_loop().call_later(0.3, line.left.set)
    with pytest.raises(Gone):
        await carried(engine, line.client(), Limits())
    assert b"error" not in line.sent[-1].get("body", b"")


async def test_a_model_is_called_by_the_name_its_engine_knows() -> None:
    question = await read(b'{"model": "tiny", "stream": true}', streamed=True)
    assert json.loads(question.put("other")) == {
        "model": "other", "stream": True, "stream_options": {"include_usage": True},
    }  # fmt: skip
    whole = await read(b'{"model": "tiny"}', streamed=True)
    assert whole.put("tiny") is whole.raw
    assert json.loads(whole.put("other")) == {"model": "other"}
