"""OpenAI's own client, unchanged, through the real gateway."""

import time
from pathlib import Path

import httpx2
import openai
import pytest
from django.db import connection

from cortex.access.models import Person, Scope
from cortex.catalog.models import Model
from cortex.fleet.models import Replica
from cortex.fleet.states import Observed
from tests.conftest import key_of
from tests.fakes.engines import WORDS, FakeEngine
from tests.gateway.conftest import Door, declare, start_gateway

HELLO: list[openai.types.chat.ChatCompletionMessageParam] = [{"role": "user", "content": "Hello"}]


def client(door: Door, key: str) -> openai.OpenAI:
    return openai.OpenAI(base_url=f"{door.url}/v1", api_key=key, max_retries=0)


def test_a_chat_streams_word_by_word(served: Door, key: str, engine: FakeEngine) -> None:
    with client(served, key) as c:
        chunks = list(c.chat.completions.create(model="tiny", messages=HELLO, stream=True))
    assert tuple(chunk.choices[0].delta.content for chunk in chunks) == WORDS
    assert engine.last.body["stream_options"] == {"include_usage": True}


def test_usage_comes_at_the_end_of_a_stream_for_those_who_ask(served: Door, key: str) -> None:
    options: openai.types.chat.ChatCompletionStreamOptionsParam = {"include_usage": True}
    with client(served, key) as c:
        chunks = list(c.chat.completions.create(model="tiny", messages=HELLO, stream=True, stream_options=options))
    assert chunks[-1].usage
    assert chunks[-1].usage.completion_tokens == len(WORDS)


def test_a_whole_answer_and_a_plain_completion(served: Door, key: str) -> None:
    with client(served, key) as c:
        chat = c.chat.completions.create(model="tiny", messages=HELLO)
        plain = c.completions.create(model="tiny", prompt="Hello")
        streamed = "".join(e.choices[0].text for e in c.completions.create(model="tiny", prompt="H", stream=True))
    assert chat.choices[0].message.content == plain.choices[0].text == streamed == "".join(WORDS)
    assert chat._request_id


def test_embeddings(served: Door, key: str) -> None:
    with client(served, key) as c:
        assert c.embeddings.create(model="tiny", input="x", encoding_format="float").data[0].embedding == [0.25, -0.5]


def test_models_are_listed_and_found_by_names_with_colons(served: Door, key: str, engine: FakeEngine) -> None:
    declare("qwen3:8b", engine.address)
    served.wait_for(key, "tiny", "qwen3:8b")
    with client(served, key) as c:
        assert {model.id for model in c.models.list()} == {"tiny", "qwen3:8b"}
        assert c.models.retrieve("qwen3:8b").id == "qwen3:8b"


def test_a_wrong_key_is_refused(served: Door) -> None:
    for wrong in ("ctx_00000000_nobody", "sk-not-ours"):
        with client(served, wrong) as c, pytest.raises(openai.AuthenticationError, match="API key") as caught:
            c.models.list()
        assert caught.value.code == "invalid_api_key"
        assert caught.value.response.headers["www-authenticate"].startswith("Bearer")


def test_a_key_without_the_scope_is_refused(served: Door, bob: Person) -> None:
    with client(served, key_of(bob, Scope.MANAGE)) as c, pytest.raises(openai.PermissionDeniedError, match="infer"):
        c.models.list()


def test_a_revoked_key_is_refused_within_five_seconds(served: Door, bob: Person) -> None:
    secret = key_of(bob, Scope.INFER)
    with client(served, secret) as c:
        c.models.list()
        bob.keys.get(prefix=secret.split("_")[1]).revoke()
        began = time.monotonic()
        with pytest.raises(openai.AuthenticationError):  # noqa: PT012 - which of them, is the question
            while time.monotonic() < began + 6:
                c.models.list()
                time.sleep(0.05)
    assert time.monotonic() - began < 5


def test_an_unknown_model_is_answered_with_those_that_serve(served: Door, key: str) -> None:
    with client(served, key) as c, pytest.raises(openai.NotFoundError, match="Models that serve: tiny") as caught:
        c.chat.completions.create(model="nope", messages=HELLO)
    assert caught.value.code == "model_not_found"


def test_a_model_that_loads_is_answered_with_why_and_when(served: Door, key: str) -> None:
    model = Model.objects.create(name="big", engine="vllm", path="big", desired="running")
    Replica.objects.create(model=model, slot=0, observed=Observed.LOADING, reason="Weights: 40 % read.")
    declare("other", "127.0.0.1:1")
    served.wait_for(key, "tiny", "other")
    with client(served, key) as c, pytest.raises(openai.InternalServerError, match="Weights: 40 % read") as caught:
        c.chat.completions.create(model="big", messages=HELLO)
    assert caught.value.status_code == 503
    assert caught.value.code == "model_loading"
    assert int(caught.value.response.headers["retry-after"]) > 0


def test_every_one_of_many_workers_serves_and_refuses(served: Door, key: str, bob: Person, tmp_path: Path) -> None:
    door = start_gateway(tmp_path, connection.settings_dict["NAME"], served.line, workers=3)
    try:
        headers = {"authorization": f"Bearer {key}"}
        answers = [httpx2.get(f"{door.url}/v1/models", headers=headers) for _ in range(30)]
        assert {answer.status_code for answer in answers} == {200}
        assert {answer.json()["data"][0]["id"] for answer in answers} == {"tiny"}
        bob.keys.get(prefix=key.split("_")[1]).revoke()
        time.sleep(5)
        assert {httpx2.get(f"{door.url}/v1/models", headers=headers).status_code for _ in range(30)} == {401}
    finally:
        door.process.terminate()
        door.process.wait(15)
