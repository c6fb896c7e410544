"""The real vLLM under Cortex, on the processor: defined, ready, asked through the gateway, stopped."""

from collections.abc import Iterator

import pytest
from openai import OpenAI

from tests.e2e.conftest import Cortex, eventually, started
from tools import made_model
from tools.made_model import GREETING
from tools.served import image, vllm

pytestmark = [pytest.mark.docker, pytest.mark.slow, pytest.mark.timeout(600)]

MADE = {
    "name": "made",
    "engine": "vllm",
    "source": {"path": "made"},
    "context": 1024,
    "users": 2,
    "gpus": 0,
    "options": {"cpu_kv_cache_gib": 1, "dtype": "bfloat16"},
    "desired": "running",
}


@pytest.fixture(scope="module")
def cortex(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cortex]:
    if image.find() is None and vllm.find() is None:
        pytest.skip(f"vLLM is not installed. {vllm.HOW}")
    with started(tmp_path_factory.mktemp("cortex"), CORTEX_IMAGES=f"vllm={image.ensure()}") as running:
        made_model.write_safetensors(running.models / "made")
        yield running


def test_the_real_vllm_is_started_asked_and_stopped(cortex: Cortex) -> None:
    cortex.rest.put("models/made", json=MADE).raise_for_status()
    cortex.wait("made", phase="serving", seconds=300)
    with OpenAI(base_url=f"{cortex.running.gateway}/v1", api_key=cortex.key) as client:
        answer = client.chat.completions.create(model="made", messages=[{"role": "user", "content": "Hi"}])
        stream = client.chat.completions.create(
            model="made", messages=[{"role": "user", "content": "Hi"}], stream=True, temperature=0
        )
        words = [chunk.choices[0].delta.content or "" for chunk in stream if chunk.choices]
    assert answer.usage
    assert answer.usage.completion_tokens > 10
    assert "".join(words) == GREETING
    assert "CPU KV cache size: 524,288 tokens" in cortex.rest.get("models/made/logs", params={"tail": 1000}).text
    told = cortex.rest.post("estimates", json={"model": "made"}).raise_for_status().json()
    assert told["verdict"] in ("fits", "tight")
    cortex.rest.post("models/made/stop").raise_for_status()
    cortex.wait("made", phase="stopped", seconds=60)
    assert eventually(lambda: cortex.containers() == [])
    cortex.rest.delete("models/made")
