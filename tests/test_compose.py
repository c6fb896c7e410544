"""compose.yaml: what each service may see, and the whole of it up and serving."""

import json
import os
import subprocess
import time
from collections.abc import Iterator
from functools import cache
from typing import Any

import pytest

from tests.compose import NETWORK, Whole, prepare
from tools import compose_plugin, engine_image, made_model
from tools.services import free_port

pytestmark = pytest.mark.docker
PROCESSES = {"web", "gateway", "worker", "agent", "beat"}
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
    lasting = PROCESSES | {"postgres", "broker"}
    assert lasting <= {name for name, service in services().items() if service.get("healthcheck")}


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
    models = tmp_path_factory.mktemp("compose-models")
    system = prepare(models, web=free_port(), gateway=free_port())
    system.end(MODEL)
    try:
        system.up("worker", "agent", "beat")
        yield system
    finally:
        system.end(MODEL)


def eventually(question: str, answer: Any, system: Whole, seconds: float = 60) -> None:
    """Ask the database until it answers so."""
    told, until = "", time.monotonic() + seconds
    while time.monotonic() < until:
        told = system.manage("shell", "--no-imports", "-c", f"{LOOK}; print({question})").strip()
        if told == str(answer):
            return
        time.sleep(0.5)
    pytest.fail(f"{question} is {told}, not {answer}.\n{system.compose('logs', '--tail', '30', 'worker', 'agent')}")


LOOK = "from cortex.fleet.models import Replica; from cortex.orchestration import orders; import cortex.celery"


@pytest.mark.timeout(900)
def test_every_process_comes_up_healthy(whole: Whole) -> None:
    until = time.monotonic() + 120
    while time.monotonic() < until:
        states = whole.states()
        if {name for name, state in states.items() if state == "healthy"} >= {
            *("postgres", "broker", "worker", "agent", "beat")
        }:
            return
        time.sleep(1)
    pytest.fail(f"{states}\n{whole.compose('logs', '--tail', '30')}")


@pytest.mark.timeout(900)
def test_the_worker_runs_as_cortex_in_the_group_of_the_socket_and_no_more(whole: Whole) -> None:
    status = whole.compose(
        "exec",
        "-T",
        "worker",
        "sh",
        "-c",
        "cat /proc/$(grep -l bin/[c]elery /proc/[0-9]*/cmdline | head -1 | cut -d/ -f3)/status",
    )
    facts = dict(line.split(":\t", 1) for line in status.splitlines() if ":\t" in line)
    group = os.stat(SOCKET).st_gid  # noqa: PTH116 - as `stat` in with-docker
    assert facts["Uid"].split() == ["10001"] * 4
    assert facts["Groups"].split() == [str(group)]
    assert int(facts["CapEff"], 16) == 0
    assert facts["NoNewPrivs"] == "1"


@pytest.mark.timeout(900)
def test_a_model_ordered_there_is_served_within_reach_of_the_gateway_alone(whole: Whole) -> None:
    made_model.write(whole.models)
    definition = {
        "name": MODEL,
        "engine": "llamacpp",
        "source": {"path": "made-model.gguf"},
        "image": engine_image.ensure_llamacpp(),
        "context": 512,
    }
    whole.manage(
        "shell", "--no-imports", "-c", f"{LOOK}; orders.define({definition}, None); orders.start('{MODEL}', None)"
    )
    eventually("[r.observed for r in Replica.objects.all()]", "['ready']", whole)
    address = whole.manage("shell", "--no-imports", "-c", f"{LOOK}; print(Replica.objects.get().address)").strip()
    assert address.startswith(f"{NETWORK}.1:")
    whole.compose("run", "--rm", "--no-deps", "--entrypoint", "answers", "gateway", f"http://{address}/health")

    whole.manage("shell", "--no-imports", "-c", f"{LOOK}; orders.stop('{MODEL}', None)")
    eventually("[r.observed for r in Replica.objects.all()]", "['absent']", whole)
