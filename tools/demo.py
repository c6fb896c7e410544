"""./dev demo: from nothing to a streamed answer, by the doors everybody else uses."""

import json
import os
import secrets
import shlex
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx2

from tools import docker_engine, engine_image, made_model, system
from tools.phase import Phase, PhaseFailed, phase
from tools.running import Running

NAME = "demo"
HUB = "https://huggingface.co"
REPOSITORY = "Qwen/Qwen2.5-0.5B-Instruct-GGUF"
FILE = "qwen2.5-0.5b-instruct-q4_k_m.gguf"
QUESTION = "Say hello to somebody who has just installed Cortex."
READY_SECONDS = 1800.0
DOOR_SECONDS = 15.0
PACE = 0.25


def run(*, web: int, gateway: int) -> int:
    """The way, phase by phase; what is already there is used, so that a second run answers at once."""
    began = float(os.environ.get("DEV_BEGAN", time.monotonic()))  # ./dev may have installed packages first
    docker_engine.ensure()
    image = engine_image.ensure_llamacpp()
    with phase("Cortex"):
        running = system.start_in_background(web=web, gateway=gateway)
    key = _key(running)
    with httpx2.Client(
        base_url=f"{running.web}/api/v1/", headers={"Authorization": f"Bearer {key}"}, timeout=40
    ) as api:
        source = _source(running)
        with phase(f"Model {NAME}") as it:
            _check(api.put(f"models/{NAME}", json=_definition(image, source)))
            _wait_until_ready(api, it)
            _wait_for_the_door(running, key)
    print(f"\n  {QUESTION}\n", flush=True)
    for word in _answer(running, key):
        print(word, end="", flush=True)
    print(f"\n\n  From nothing to this answer: {time.monotonic() - began:.1f} s")
    _farewell(running, key, made="repository" not in source)
    return 0


def _source(running: Running) -> dict[str, str]:
    """A small instruct model of the hub where the hub answers, else one that is made here."""
    if _hub_answers():
        return {"repository": REPOSITORY, "path": FILE}
    with phase("Model file") as it:
        it.say("the hub cannot be reached: making a small model here")
        path = made_model.write(Path(running.environment["CORTEX_MODELS"]))
        it.end(f"the hub cannot be reached: made {path.name}, {path.stat().st_size / 1e6:.0f} MB")
    return {"path": path.name}


def _hub_answers() -> bool:
    try:
        return httpx2.head(HUB, timeout=5, follow_redirects=True).is_success
    except httpx2.HTTPError:
        return False


def _definition(image: str, source: dict[str, str]) -> dict[str, Any]:
    return {
        "name": NAME,
        "engine": "llamacpp",
        "source": source,
        "image": image,
        "context": 2048,
        "users": 2,
        "gpus": 0,
        "desired": "running",
    }


def _wait_until_ready(api: httpx2.Client, it: Phase) -> None:
    until = time.monotonic() + READY_SECONDS
    while time.monotonic() < until:
        status = _check(api.get(f"models/{NAME}"))["status"]
        if status["settled"]:
            it.end("ready")
            return
        it.say(f"{status['phase']}: {status['reason']}{_progress(status)}")
        if status["phase"] == "failing":
            raise PhaseFailed(f"{status['reason']}\n  More: ./dev cli logs {NAME}")
        time.sleep(PACE)
    raise PhaseFailed(f"{NAME} was not ready within {READY_SECONDS:.0f} s. See: ./dev cli show {NAME}")


def _wait_for_the_door(running: Running, key: str) -> None:
    """The gateway reads its table of routes every second or so: it may know a little later than REST."""
    until = time.monotonic() + DOOR_SECONDS
    with httpx2.Client(base_url=running.gateway, headers={"Authorization": f"Bearer {key}"}, timeout=10) as gateway:
        while not gateway.get(f"/v1/models/{NAME}").is_success and time.monotonic() < until:
            time.sleep(PACE)


def _progress(status: dict[str, Any]) -> str:
    for replica in status["replicas"]:
        attempt = replica.get("attempt") or {}
        if status["phase"] == "fetching" and attempt.get("bytes_total"):
            done, total = attempt["bytes_done"], attempt["bytes_total"]
            bar = "#" * round(20 * done / total)
            return f" [{bar:.<20}] {done / 1e6:.0f} of {total / 1e6:.0f} MB"
    return ""


def _answer(running: Running, key: str) -> Iterator[str]:
    """The words of a streamed chat completion, through the gateway."""
    body = {"model": NAME, "messages": [{"role": "user", "content": QUESTION}], "stream": True, "max_tokens": 120}
    address, headers = f"{running.gateway}/v1/chat/completions", {"Authorization": f"Bearer {key}"}
    with httpx2.stream("POST", address, headers=headers, json=body, timeout=120) as response:
        if not response.is_success:
            raise PhaseFailed(f"The gateway answers {response.status_code}: {response.read().decode()}")
        for line in response.iter_lines():
            if line.startswith("data: {"):
                yield from (c["delta"].get("content") or "" for c in json.loads(line[6:]).get("choices", ()))


def _key(running: Running) -> str:
    """A key of the demo's own person, who is an operator: the first administrator is still to be made."""
    kept = system.DEMO_KEY
    if kept.exists() and _is_good(running, kept.read_text()):
        return kept.read_text()
    key = system.read_manage(running, "issue_key", "demo", "--make-operator", "--name", f"demo {secrets.token_hex(2)}")
    kept.touch(mode=0o600)
    kept.write_text(key.strip())
    return key.strip()


def _is_good(running: Running, key: str) -> bool:
    return httpx2.get(f"{running.web}/api/v1/models", headers={"Authorization": f"Bearer {key}"}).is_success


def _check(response: httpx2.Response) -> dict[str, Any]:
    if not response.is_success:
        raise PhaseFailed(f"REST answers {response.status_code}: {response.text}")
    answer: dict[str, Any] = response.json()
    return answer


def _farewell(running: Running, key: str, *, made: bool) -> None:
    if made:
        print("  (A made model: its weights know that one sentence. The engine, container and stream are real.)")
    system.announce(running)
    python = shlex.quote(sys.executable)  # many a system's own Python refuses to have packages installed
    print(f"""  With curl:

curl -N {running.gateway}/v1/chat/completions -H "Authorization: Bearer {key}" \\
  -H "Content-Type: application/json" \\
  -d '{{"model": "{NAME}", "messages": [{{"role": "user", "content": "Hello"}}], "stream": true}}'

  With OpenAI's client:

{python} -m pip install -q openai && {python} - <<'END'
from openai import OpenAI
client = OpenAI(base_url="{running.gateway}/v1", api_key="{key}")
for chunk in client.chat.completions.create(
    model="{NAME}", messages=[{{"role": "user", "content": "Hello"}}], stream=True
):
    print((chunk.choices and chunk.choices[0].delta.content) or "", end="", flush=True)
END

  On the command line, as the demo's operator: ./dev cli ps

  Stop everything: ./dev down   (models go on running; ./dev down --models stops them too)
""")


if __name__ == "__main__":
    sys.exit(run(web=8000, gateway=8001))
