"""A stop lets answers in flight come to their end, takes no new ones meanwhile, and waits for nothing else."""

import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest
from openai import APIStatusError, OpenAI, Stream
from openai.types.chat import ChatCompletionChunk, ChatCompletionMessageParam

from cortex.orchestration.stopping import DRAIN_FOR
from cortex.telemetry.inflight import WRITTEN_EVERY
from tests.e2e.conftest import Cortex, eventually

pytestmark = [pytest.mark.docker, pytest.mark.timeout(300)]

LONG = 2000
MERGE = {"Content-Type": "application/merge-patch+json"}
HI: list[ChatCompletionMessageParam] = [{"role": "user", "content": "Hi"}]
DATA = {"name": "drained", "engine": "llamacpp", "source": {"path": "made.gguf"}, "context": 4096, "users": 2}


@pytest.fixture
def client(cortex: Cortex) -> Iterator[OpenAI]:
    """OpenAI's own, in front of one model that serves, `drained`."""
    cortex.rest.put("models/drained", json=DATA | {"desired": "running"}).raise_for_status()
    cortex.wait("drained", phase="serving")
    with OpenAI(base_url=f"{cortex.running.gateway}/v1", api_key=cortex.key, max_retries=0) as client:
        yield client
    cortex.rest.delete("models/drained")


def ask(client: OpenAI, tokens: int) -> Stream[ChatCompletionChunk]:
    """An answer of that many tokens, as it comes: the model repeats its sentence."""
    more = {"ignore_eos": True, "max_tokens": tokens}
    return client.chat.completions.create(model="drained", messages=HI, stream=True, extra_body=more)


def finish(stream: Stream[ChatCompletionChunk]) -> str | None:
    """Read to the end; why it ended, in the engine's word."""
    return [chunk.choices[0].finish_reason for chunk in stream if chunk.choices][-1]


def refusal(client: OpenAI) -> APIStatusError | None:
    """How a new request is turned down; None where it is answered."""
    try:
        finish(ask(client, 1))
    except APIStatusError as error:
        return error
    return None


def test_a_stop_waits_for_the_answer_in_flight_and_takes_no_new_requests(cortex: Cortex, client: OpenAI) -> None:
    stream = ask(client, LONG)
    next(stream)
    containers = cortex.containers()
    with ThreadPoolExecutor(1) as threads:
        ended = threads.submit(finish, stream)
        cortex.rest.post("models/drained/stop").raise_for_status()
        refused = eventually(lambda: refusal(client), 5)
        assert (refused.status_code, refused.code) == (503, "model_not_running")
        assert cortex.status("drained")["phase"] == "draining"
        assert cortex.containers() == containers
        assert not ended.done()
        assert ended.result(DRAIN_FOR.total_seconds()) == "length"
    cortex.wait("drained", phase="stopped", seconds=15)
    assert cortex.containers() == []


def test_a_stop_with_nothing_in_flight_waits_for_nothing(cortex: Cortex, client: OpenAI) -> None:
    assert finish(ask(client, 1)) == "length"
    time.sleep(2 * WRITTEN_EVERY)
    began = time.monotonic()
    cortex.rest.post("models/drained/stop").raise_for_status()
    cortex.wait("drained", phase="stopped", seconds=15)
    assert time.monotonic() - began < 5
    assert cortex.containers() == []


def test_a_change_fails_no_request_and_ends_with_the_new_container(cortex: Cortex, client: OpenAI) -> None:
    (before,) = cortex.containers()
    changed = {"options": {"batch_size": 64}}
    asked = 0
    cortex.rest.patch("models/drained", json=changed, headers=MERGE).raise_for_status()
    until = time.monotonic() + 60
    while not cortex.status("drained")["settled"]:
        assert finish(ask(client, 1)) == "length"
        asked += 1
        assert time.monotonic() < until
    assert asked > 3
    assert finish(ask(client, 1)) == "length"
    (after,) = cortex.containers()
    assert after != before


def test_a_change_that_fails_leaves_the_earlier_definition_answering(cortex: Cortex, client: OpenAI) -> None:
    before = cortex.containers()
    wrong = {"source": {"path": "nowhere.gguf"}}
    refused = cortex.rest.patch("models/drained", json=wrong, headers=MERGE)
    assert refused.status_code == 400
    broken = {"options": {"extra_args": ["--no-such-flag"]}}
    cortex.rest.patch("models/drained", json=broken, headers=MERGE).raise_for_status()

    def gave_up() -> bool:
        replicas = cortex.status("drained")["replicas"]
        return any(replica["gave_up"] and replica["replaces"] for replica in replicas)

    eventually(gave_up, 60)
    assert finish(ask(client, 1)) == "length"
    assert "--no-such-flag" in cortex.status("drained")["reason"]
    assert cortex.containers() == before
