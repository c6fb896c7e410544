"""compose.yaml: what each service may see, and the whole of it up and serving."""

import json
import os
import re
import subprocess
import time
from collections.abc import Callable, Iterator
from functools import cache
from typing import Any, TypeVar

import httpx2
import pytest
from openai import OpenAI
from openai.types.chat import ChatCompletionMessageParam

from tests.compose import NETWORK, Whole, containers, prepare
from tools import compose_plugin, made_model
from tools.services import free_port

T = TypeVar("T")
pytestmark = pytest.mark.docker
# On a machine that holds no image yet, the first of these makes them all.
WHOLE = pytest.mark.timeout(1200)
PROCESSES = {"web", "gateway", "worker", "agent", "beat"}
LASTING = PROCESSES | {"postgres", "broker"}
PASSWORDS = ("password1", "password2")
SOCKET = "/var/run/docker.sock"
MODEL = "compose-made-model"


@cache
def services() -> dict[str, dict[str, Any]]:
    """Every service as Compose reads it, the gpu profile's included, with nothing set from outside."""
    clean = {name: os.environ[name] for name in ("PATH", "HOME") if name in os.environ}
    command = [*compose_plugin.ensure(), "--env-file", os.devnull, "--profile", "gpu", "config", "--format", "json"]
    done = subprocess.run(command, env=clean, check=True, capture_output=True, text=True)
    found: dict[str, dict[str, Any]] = json.loads(done.stdout)["services"]
    return found


def with_mount(target: str) -> set[str]:
    return {
        name
        for name, service in services().items()
        if any(mount["target"] == target for mount in service.get("volumes", ()))
    }


def test_it_is_whole_without_a_setting_from_outside() -> None:
    assert PROCESSES | {"postgres", "broker", "migrate", "prepare", "gpus"} == set(services())


def test_only_worker_and_agent_see_dockers_socket() -> None:
    assert with_mount(SOCKET) == {"worker", "agent"}


def test_no_service_is_privileged_or_shares_the_hosts_namespaces() -> None:
    for service in services().values():
        assert not service.get("privileged")
        assert "host" not in (service.get("network_mode"), service.get("pid"), service.get("ipc"))


def test_every_process_of_ours_drops_all_capabilities_and_writes_only_where_it_may() -> None:
    for name in PROCESSES | {"migrate", "gpus"}:
        service = services()[name]
        assert service["cap_drop"] == ["ALL"]
        assert service["read_only"] is True
        assert "no-new-privileges:true" in service["security_opt"]


def test_only_those_with_the_socket_start_as_root_and_to_leave_it_at_once() -> None:
    root = {name for name, service in services().items() if service.get("user") == "0:0"}
    assert root == {"worker", "agent", "prepare"}
    for name in ("worker", "agent"):
        assert services()[name]["entrypoint"][0] == "with-docker"


def test_ports_are_published_on_loopback_and_by_the_two_doors_alone() -> None:
    published = {name: service["ports"] for name, service in services().items() if service.get("ports")}
    assert set(published) == {"web", "gateway"}
    assert {port["host_ip"] for ports in published.values() for port in ports} == {"127.0.0.1"}


def test_a_process_waits_for_the_schema_and_for_services_that_are_healthy() -> None:
    for name in PROCESSES:
        waits = {other: how["condition"] for other, how in services()[name]["depends_on"].items()}
        assert waits["migrate"] == "service_completed_successfully"
        assert waits["postgres"] == waits["broker"] == "service_healthy"


def test_everything_that_runs_on_says_whether_it_is_healthy() -> None:
    assert {name for name, service in services().items() if service.get("healthcheck")} >= LASTING


def test_no_secret_is_written_in_the_file() -> None:
    for service in services().values():
        for name, value in (service.get("environment") or {}).items():
            assert "PASSWORD" not in name or name.endswith("_FILE"), f"{name}={value}"


def test_the_database_does_not_see_the_signing_key() -> None:
    assert "postgres" not in with_mount("/var/lib/cortex")


def test_models_have_one_path_inside_and_on_the_host() -> None:
    for name in ("web", "worker", "agent"):
        environment = services()[name]["environment"]
        (mount,) = (m for m in services()[name]["volumes"] if m["target"] == environment["CORTEX_MODELS"])
        assert mount["source"] == mount["target"] == environment["CORTEX_MODELS_ON_HOST"]


def test_cards_are_given_to_the_gpu_profile_alone_and_no_socket_with_them() -> None:
    reserved = {
        name
        for name, service in services().items()
        if (service.get("deploy") or {}).get("resources", {}).get("reservations")
    }
    assert reserved == {"gpus"}
    assert services()["gpus"]["profiles"] == ["gpu"]
    assert "gpus" not in with_mount(SOCKET)


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Whole]:
    """Everything is started, and the door of the people answers."""
    models = tmp_path_factory.mktemp("compose-models")
    models.chmod(0o700)
    system = prepare(models, web=free_port(), gateway=free_port())
    system.end(MODEL)
    try:
        made_model.write(models)
        system.up()
        eventually(lambda: answers(f"{system.web}/api/v1/health"), system, 60)
        yield system
    finally:
        system.end(MODEL)


@pytest.fixture(scope="module")
def key(whole: Whole) -> str:
    return whole.manage("issue_key", "tester", "--make-operator")


@pytest.fixture(scope="module")
def rest(whole: Whole, key: str) -> Iterator[httpx2.Client]:
    headers = {"Authorization": f"Bearer {key}"}
    with httpx2.Client(base_url=f"{whole.web}/api/v1/", headers=headers, timeout=30) as client:
        yield client


def answers(url: str) -> bool:
    try:
        return httpx2.get(url).status_code == 200
    except httpx2.TransportError:
        return False


def eventually(ask: Callable[[], T | None], system: Whole, seconds: float = 60) -> T:
    """The first answer that is something; fails with the last words of every process."""
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        if answer := ask():
            return answer
        time.sleep(0.3)
    pytest.fail(f"not within {seconds:.0f} s: {system.states()}\n{system.compose('logs', '--tail', '30')}")


def in_phase(rest: httpx2.Client, phase: str) -> Callable[[], bool]:
    return lambda: rest.get(f"models/{MODEL}").json()["status"]["phase"] == phase


def seen_at(rest: httpx2.Client) -> str:
    """When this host's agent last wrote."""
    (host,) = rest.get("hosts").json()["items"]
    return str(host["seen_at"])


def chat(system: Whole, key: str) -> str:
    """An answer, streamed through the published port of the gateway."""
    with OpenAI(base_url=f"{system.gateway}/v1", api_key=key) as client:
        said: list[ChatCompletionMessageParam] = [{"role": "user", "content": "Hi"}]
        stream = client.chat.completions.create(model=MODEL, messages=said, stream=True)
        return "".join(chunk.choices[0].delta.content or "" for chunk in stream if chunk.choices)


@WHOLE
def test_a_model_defined_over_rest_serves_through_the_published_ports(
    whole: Whole, rest: httpx2.Client, key: str
) -> None:
    definition = {"name": MODEL, "engine": "llamacpp", "source": {"path": "made-model.gguf"}, "context": 512}
    refused = rest.put(f"models/{MODEL}", json=definition)
    assert refused.status_code == 400
    assert f"chmod -R a+rX {whole.models}" in refused.text

    whole.models.chmod(0o755)
    assert rest.put(f"models/{MODEL}", json=definition).status_code == 201
    assert rest.post(f"models/{MODEL}/start").status_code == 202
    eventually(in_phase(rest, "serving"), whole)
    assert chat(whole, key) == made_model.GREETING
    assert len(containers(MODEL)) == 1
    eventually(lambda: "listening" in rest.get(f"models/{MODEL}/logs").text, whole)


@WHOLE
def test_the_setup_link_makes_the_first_administrator_who_tries_the_model_from_the_page(whole: Whole) -> None:
    link = whole.manage("setup_link")
    assert link.startswith(f"{whole.web.replace('127.0.0.1', 'localhost')}/setup?token=")
    with httpx2.Client(base_url=whole.web, follow_redirects=True, timeout=30) as browser:
        form = {"token": link.partition("token=")[2], "username": "ada", **dict.fromkeys(PASSWORDS, "as said, a word")}
        browser.get("/setup", params={"token": form["token"]}).raise_for_status()
        page = browser.post("/setup", data=form | {"csrfmiddlewaretoken": browser.cookies["csrftoken"]})
        assert MODEL in page.raise_for_status().text
        said = {"messages": [{"role": "user", "content": "Hi"}]}
        csrf = {"X-CSRFToken": browser.cookies["csrftoken"]}
        assert "Hello" in browser.post(f"/models/{MODEL}/chat", json=said, headers=csrf).text
        style = re.search(r'href="(/static/[^"]+[.]css)', page.text)
        assert style
        assert browser.get(style[1]).headers["content-type"].startswith("text/css")
    assert "an administrator exists" in whole.manage("setup_link")


@WHOLE
def test_a_restarted_worker_and_agent_keep_the_models_container(whole: Whole, rest: httpx2.Client, key: str) -> None:
    before = containers(MODEL)
    whole.compose("restart", "worker", "agent")
    seen = seen_at(rest)
    eventually(lambda: seen_at(rest) > seen, whole)
    eventually(in_phase(rest, "serving"), whole)
    assert (containers(MODEL), chat(whole, key)) == (before, made_model.GREETING)


@WHOLE
def test_engines_are_in_reach_of_the_gateway_and_not_of_other_machines(whole: Whole) -> None:
    (container,) = containers(MODEL)
    command = ["docker", "inspect", "--format", "{{json .NetworkSettings.Ports}}", container]
    ports = json.loads(subprocess.run(command, check=True, capture_output=True).stdout)
    (binding,) = (binding for published in ports.values() for binding in published or ())
    assert binding["HostIp"] == f"{NETWORK}.1"
    whole.compose("exec", "-T", "gateway", "answers", f"http://{NETWORK}.1:{binding['HostPort']}/health")


@WHOLE
def test_the_broker_takes_nobody_without_its_password(whole: Whole) -> None:
    assert "NOAUTH" in whole.compose("exec", "-T", "broker", "redis-cli", "ping")
    [command] = whole.compose("exec", "-T", "broker", "cat", "/proc/1/cmdline").splitlines()
    assert "requirepass" not in command


@WHOLE
def test_the_worker_runs_as_cortex_in_the_group_of_the_socket_and_no_more(whole: Whole) -> None:
    script = "cat /proc/$(grep -l bin/[c]elery /proc/[0-9]*/cmdline | head -1 | cut -d/ -f3)/status"
    status = whole.compose("exec", "-T", "worker", "sh", "-c", script)
    facts = dict(line.split(":\t", 1) for line in status.splitlines() if ":\t" in line)
    group = os.stat(SOCKET).st_gid  # noqa: PTH116 - as `stat` in with-docker
    assert facts["Uid"].split() == ["10001"] * 4
    assert facts["Groups"].split() == [str(group)]
    assert int(facts["CapEff"], 16) == 0
    assert facts["NoNewPrivs"] == "1"


@WHOLE
def test_of_what_runs_only_worker_and_agent_hold_dockers_socket(whole: Whole) -> None:
    assert {name for name, targets in whole.mounts().items() if SOCKET in targets} == {"worker", "agent"}


@WHOLE
def test_a_stopped_model_leaves_nothing_behind(whole: Whole, rest: httpx2.Client) -> None:
    rest.post(f"models/{MODEL}/stop").raise_for_status()
    eventually(in_phase(rest, "stopped"), whole)
    assert containers(MODEL) == []


@WHOLE
def test_every_process_is_healthy_and_the_two_that_prepare_have_ended(whole: Whole) -> None:
    healthy = dict.fromkeys(LASTING, "healthy") | {"prepare": "exited", "migrate": "exited"}
    eventually(lambda: whole.states() == healthy, whole, 90)
