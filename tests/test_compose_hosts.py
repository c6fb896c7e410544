"""compose.shared.yaml and compose.host.yaml: what several machines open to each other, and what they keep."""

import json
import os
import subprocess
from typing import Any

import pytest

from tools import compose_plugin

pytestmark = pytest.mark.docker
FIRST, OWN = "10.9.0.1", "10.9.0.2"
HOST = {"CORTEX_HOST_NAME": "atlas", "CORTEX_FIRST": FIRST, "CORTEX_PRIVATE_ADDRESS": OWN}
SOCKET = "/var/run/docker.sock"


def config(*files: str, **settings: str) -> "subprocess.CompletedProcess[str]":
    clean = {name: os.environ[name] for name in ("PATH", "HOME") if name in os.environ}
    named = [word for file in files for word in ("--file", file)]
    words = ["--env-file", os.devnull, *named, "--profile", "gpu", "config", "--format", "json"]
    command = [*compose_plugin.ensure(), *words]
    return subprocess.run(command, env=clean | settings, check=False, capture_output=True, text=True)


def services(*files: str, **settings: str) -> dict[str, dict[str, Any]]:
    done = config(*files, **settings)
    assert done.returncode == 0, done.stderr
    found: dict[str, dict[str, Any]] = json.loads(done.stdout)["services"]
    return found


def host() -> dict[str, dict[str, Any]]:
    return services("compose.host.yaml", **HOST)


def test_the_first_machine_opens_database_and_broker_on_its_private_address_alone() -> None:
    shared = services("compose.yaml", "compose.shared.yaml", CORTEX_PRIVATE_ADDRESS=FIRST)
    published = {
        name: {p["host_ip"] for p in service["ports"]} for name, service in shared.items() if "ports" in service
    }
    assert published == {"postgres": {FIRST}, "broker": {FIRST}, "web": {"127.0.0.1"}, "gateway": {"127.0.0.1"}}


@pytest.mark.parametrize("missing", HOST)
def test_what_a_further_host_must_be_told_is_asked_for(missing: str) -> None:
    done = config("compose.host.yaml", **{name: value for name, value in HOST.items() if name != missing})
    assert done.returncode
    assert missing in done.stderr


def test_database_and_broker_are_opened_nowhere_without_an_address() -> None:
    assert "CORTEX_PRIVATE_ADDRESS" in config("compose.yaml", "compose.shared.yaml").stderr


def test_a_further_host_runs_worker_and_agent_and_opens_no_port() -> None:
    assert set(host()) == {"worker", "agent", "gpus"}
    assert not any(service.get("ports") for service in host().values())


def test_only_worker_and_agent_of_a_further_host_see_its_docker_socket() -> None:
    seen = {name for name, each in host().items() if any(v["target"] == SOCKET for v in each["volumes"])}
    assert seen == {"worker", "agent"}
    for name in seen:
        assert host()[name]["entrypoint"][0] == "with-docker"


def test_processes_of_a_further_host_have_no_capability_they_do_not_need() -> None:
    for name, service in host().items():
        assert service["cap_drop"] == ["ALL"]
        assert service.get("cap_add", []) == ([] if name == "gpus" else ["SETUID", "SETGID"])
        assert service["read_only"] is True
        assert not service.get("privileged")


def test_passwords_of_a_further_host_come_from_files() -> None:
    for service in host().values():
        environment = service["environment"]
        assert environment["DATABASE_PASSWORD_FILE"] == "/run/secrets/database-password"
        assert environment["BROKER_PASSWORD_FILE"] == "/run/secrets/broker-password"
        assert environment["BROKER_URL"] == f"redis://{FIRST}:6379/0"
        assert environment["CORTEX_ENGINE_ADDRESS"] == OWN
