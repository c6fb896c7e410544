"""From a definition to a first token and back to nothing, on real Docker, by the doors that people use."""

import os
import signal
import subprocess

import pytest
from openai import OpenAI

from tests.e2e.conftest import Cortex, eventually

pytestmark = [pytest.mark.docker, pytest.mark.timeout(300)]

MADE = {"name": "made", "engine": "llamacpp", "source": {"path": "made.gguf"}, "context": 1024, "users": 2}


def ask(client: OpenAI) -> list[str]:
    """The words of a streamed answer, as they came."""
    stream = client.chat.completions.create(model="made", messages=[{"role": "user", "content": "Hi"}], stream=True)
    return [chunk.choices[0].delta.content or "" for chunk in stream if chunk.choices]


def test_define_start_chat_kill_return_stop(cortex: Cortex) -> None:
    assert cortex.rest.put("models/made", json=MADE).status_code == 201
    assert cortex.status("made")["phase"] == "stopped"
    assert cortex.rest.post("models/made/start").status_code == 202
    cortex.wait("made", phase="serving")
    [container] = cortex.containers()

    with OpenAI(base_url=f"{cortex.running.gateway}/v1", api_key=cortex.key) as client:
        words = ask(client)
        assert "made" in [model.id for model in client.models.list()]
    assert "".join(words).startswith("Hello! I am a small made model")
    assert len(words) > 10

    subprocess.run(["docker", "kill", container], check=True, capture_output=True)
    eventually(lambda: cortex.containers() not in ([container], []))
    cortex.wait("made", phase="serving")
    attempts = cortex.rest.get("models/made/attempts").json()["items"]
    assert [attempt["exit_code"] for attempt in attempts] == [None, 137]
    assert "llama" in attempts[1]["last_log"] or "srv" in attempts[1]["last_log"]

    eventually(lambda: "listening" in cortex.rest.get("models/made/logs").text)
    cortex.rest.post("models/made/stop")
    cortex.wait("made", phase="stopped")
    assert cortex.containers() == []
    cortex.rest.delete("models/made")
    eventually(lambda: cortex.rest.get("models/made").status_code == 404)


def test_an_image_that_does_not_exist_is_named_and_leaves_nothing(cortex: Cortex) -> None:
    wrong = MADE | {"name": "no-image", "image": "cortex.invalid/nothing:1", "desired": "running"}
    assert cortex.rest.put("models/no-image", json=wrong).status_code == 201
    status = cortex.wait("no-image", phase="failing")
    assert "cortex.invalid/nothing:1" in status["reason"]
    assert cortex.containers() == []
    cortex.rest.delete("models/no-image")


def test_an_engine_that_exits_at_once_says_why_in_rest_and_on_the_command_line(cortex: Cortex) -> None:
    wrong = MADE | {"name": "wrong", "options": {"extra_args": ["--no-such-option"]}, "desired": "running"}
    assert cortex.rest.put("models/wrong", json=wrong).status_code == 201
    cortex.wait("wrong", phase="failing")
    eventually(lambda: "--no-such-option" in cortex.status("wrong")["reason"])
    assert "--no-such-option" in cortex.cli("show", "wrong").stdout
    eventually(lambda: cortex.containers() == [] or None)
    cortex.rest.delete("models/wrong")


def test_a_restarted_worker_and_agent_keep_what_runs(cortex: Cortex) -> None:
    cortex.rest.put("models/kept", json=MADE | {"name": "kept", "desired": "running"})
    cortex.wait("kept", phase="serving")
    before = cortex.containers()
    for role in ("worker", "agent"):
        pid = cortex.child(role)
        assert pid
        os.kill(pid, signal.SIGKILL)
    cortex.wait("kept", phase="serving")
    assert cortex.containers() == before
    cortex.rest.delete("models/kept")


def test_an_embedder_answers_openais_client_with_vectors(cortex: Cortex) -> None:
    embedder = MADE | {"name": "embedder", "options": {"embeddings": True, "pooling": "mean"}, "desired": "running"}
    cortex.rest.put("models/embedder", json=embedder).raise_for_status()
    cortex.wait("embedder", phase="serving")
    with OpenAI(base_url=f"{cortex.running.gateway}/v1", api_key=cortex.key) as client:
        answer = client.embeddings.create(model="embedder", input=["one", "two"])
    assert [len(item.embedding) for item in answer.data] == [256, 256]
    assert answer.data[0].embedding != answer.data[1].embedding
    cortex.rest.delete("models/embedder")
