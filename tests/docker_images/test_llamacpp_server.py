"""The CPU image and the made model, as the demo uses them: a real llama-server in a real container."""

import json
import subprocess
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.error import URLError

import pytest

from tools import engine_image, made_model, made_tokenizer
from tools.made_model import GREETING, Shape

pytestmark = pytest.mark.docker
NAME = "cortex-test-llamacpp-server"


def docker(*words: str) -> str:
    return subprocess.run(["docker", *words], check=True, capture_output=True, text=True).stdout.strip()


def ask(url: str, body: dict[str, object]) -> Any:
    request = urllib.request.Request(url, json.dumps(body).encode(), {"Content-Type": "application/json"})
    with urllib.request.urlopen(request, timeout=30) as answer:
        return json.load(answer)


@pytest.fixture(scope="module")
def image() -> str:
    return engine_image.ensure_llamacpp()


@pytest.fixture(scope="module")
def server(image: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    folder = tmp_path_factory.mktemp("models")
    made_model.write(folder)
    folder.chmod(0o755)
    subprocess.run(["docker", "rm", "--force", NAME], capture_output=True, check=False)
    options = ["-m", "/models/made-model.gguf", "--host", "0.0.0.0", "--port", "8000", "-c", "1024", "-t", "1"]
    mount = f"{folder}:/models:ro"
    docker("run", "--detach", "--name", NAME, "--publish", "127.0.0.1::8000", "--volume", mount, image, *options)
    try:
        yield f"http://{ready(docker('port', NAME, '8000/tcp'))}"
    finally:
        docker("rm", "--force", NAME)


def ready(address: str) -> str:
    until = time.monotonic() + 60
    while time.monotonic() < until:
        try:
            with urllib.request.urlopen(f"http://{address}/health", timeout=2):
                return address
        except (URLError, ConnectionError):
            time.sleep(0.1)
    pytest.fail(f"llama-server did not answer. Its log:\n{docker('logs', NAME)}")


def test_the_image_runs_as_nobody_of_importance(image: str) -> None:
    (facts,) = json.loads(docker("image", "inspect", image))
    if image != engine_image.BUILT:
        pytest.skip("the official image is not ours to judge")
    assert facts["Config"]["User"] == "10001:10001"
    assert facts["Config"]["Entrypoint"] == ["llama-server"]
    assert facts["Config"]["Healthcheck"] == {"Test": ["NONE"]}


def test_the_made_model_says_its_sentence_even_when_asked_to_be_wild(server: str) -> None:
    body = {"messages": [{"role": "user", "content": "Who are you?"}], "temperature": 1.5}
    answer = ask(f"{server}/v1/chat/completions", body)
    (choice,) = answer["choices"]
    assert choice["message"]["content"] == GREETING
    assert choice["finish_reason"] == "stop"


def test_it_goes_on_as_long_as_it_may_when_the_end_is_ignored(server: str) -> None:
    body = {"messages": [{"role": "user", "content": "More!"}], "max_tokens": 200, "ignore_eos": True}
    usage = ask(f"{server}/v1/chat/completions", body)["usage"]
    assert usage["completion_tokens"] == 200


def test_llama_cpp_and_hugging_face_cut_a_text_into_the_same_tokens(server: str) -> None:
    vocabulary = made_tokenizer.train(Shape().vocab, GREETING)
    text = "It's 2026: GPUs don't wait, \u00fcber 1234567 \u65e5\u672c\n\n  indented\ttext \u2014 ends?!"
    assert ask(f"{server}/tokenize", {"content": text})["tokens"] == vocabulary.encode(text)


def test_the_sources_are_pinned_by_hash() -> None:
    pinned = Path("docker-images/llamacpp-server/source.txt").read_text().splitlines()[-1]
    assert pinned.startswith("llama-cpp-python==")
    assert "--hash=sha256:" in pinned
