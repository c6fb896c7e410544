"""What Docker answers, read into the contract's words: containers, log lines, events, progress, faults."""

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from cortex.runtime.contract import (
    Container,
    DiskFull,
    Effort,
    Event,
    ImageMissing,
    ImageRefused,
    LogLine,
    NameTaken,
    NoGpuRuntime,
    NotFound,
    PullProgress,
    RuntimeFault,
    SpecRefused,
    State,
    Unreachable,
)

Json = Mapping[str, Any]

STATES = {
    "created": State.CREATED,
    "running": State.RUNNING,
    "restarting": State.RUNNING,
    "paused": State.PAUSED,
}
ANYWHERE = {"0.0.0.0": "127.0.0.1", "::": "[::1]"}  # noqa: S104 - read back, not bound
LONGEST_LINE = 4096
PROCESSORS = ("NanoCpus", "CpuQuota", "CpusetCpus", "CpuShares")
ESCAPES = re.compile(r"\x1b(?:\[[0-?]*[ -/]*[@-~]|\][^\x07\x1b]*(?:\x07|\x1b\\)?|[@-Z\\-_])")
CONTROLS = re.compile(r"[\x00-\x08\x0a-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069]")
OLDEST_API, NEWEST_API = "1.40", "1.45"


def api_version(told: Json) -> str:
    """The newest API that both sides know, from /version; the SDK alone would take whatever the engine offers."""
    newest, oldest = str(told["ApiVersion"]), str(told.get("MinAPIVersion") or "1.12")
    if _numbers(newest) < _numbers(OLDEST_API) or _numbers(oldest) > _numbers(NEWEST_API):
        raise RuntimeFault(
            f"Docker {told.get('Version')} speaks API {oldest} to {newest}.",
            f"Cortex needs an engine that speaks one of {OLDEST_API} to {NEWEST_API}.",
        )
    return min(newest, NEWEST_API, key=_numbers)


def _numbers(version: str) -> tuple[int, ...]:
    return tuple(int(part) for part in version.split("."))


def container(found: Json) -> Container:
    """A container as /containers/{id}/json tells it."""
    life, config, host = found["State"], found["Config"], found["HostConfig"]
    state = STATES.get(life["Status"], State.EXITED)
    error = clean(life.get("Error") or "")
    ended = state is State.EXITED or (state is State.CREATED and error)
    return Container(
        id=found["Id"],
        name=found["Name"].removeprefix("/"),
        image=config["Image"],
        state=state,
        labels=config.get("Labels") or {},
        address=_address(found) if state in (State.RUNNING, State.PAUSED) else None,
        exit_code=life["ExitCode"] if ended else None,
        oom_killed=bool(life.get("OOMKilled")),
        error=error,
        created_at=moment(found.get("Created")),
        started_at=moment(life.get("StartedAt")),
        finished_at=moment(life.get("FinishedAt")),
        gpus=tuple(gpu for request in host.get("DeviceRequests") or () for gpu in request.get("DeviceIDs") or ()),
        altered=_altered(found),
    )


def _altered(found: Json) -> str:
    """What is never so in a container of ours: `docker update` and `docker network connect` make it so."""
    host, networks = found["HostConfig"], (found.get("NetworkSettings") or {}).get("Networks") or {}
    changes = {
        "it restarts by itself": (host.get("RestartPolicy") or {}).get("Name") not in (None, "", "no"),
        "its processors are limited": any(host.get(name) for name in PROCESSORS),
        f"it is in {len(networks)} networks": len(networks) > 1,
    }
    return ", ".join(what for what, is_so in changes.items() if is_so)


@dataclass(frozen=True)
class Look:
    """A container as inspected, and the run of it that was seen; None when it does not run."""

    container: Container
    run: tuple[str, ...] | None


def run(state: str, names: Sequence[str], told: Json) -> tuple[str, ...] | None:
    """What stays the same for as long as a container runs on, in a listing as in an inspection; None when it does not.

    Each start joins its networks anew, under other endpoints.
    """
    networks = ((told.get("NetworkSettings") or {}).get("Networks") or {}).values()
    endpoints = sorted(network.get("EndpointID") or "" for network in networks)
    if state != "running" or not all(endpoints) or not endpoints:
        return None
    return (*sorted(name for name in names if name.count("/") == 1), *endpoints)


def _address(found: Json) -> str | None:
    ports = (found.get("NetworkSettings") or {}).get("Ports") or {}
    for published in ports.values():
        for binding in published or ():
            host = binding["HostIp"]
            host = ANYWHERE.get(host, f"[{host}]" if ":" in host else host)
            return f"{host}:{binding['HostPort']}"
    return None


def moment(text: str | None) -> datetime | None:
    """A time in Docker's words; its year 1 means never."""
    if not text or text.startswith("0001-"):
        return None
    return datetime.fromisoformat(text)


def nanoseconds(text: str) -> int:
    """An RFC 3339 time as nanoseconds since 1970. Raises ValueError."""
    whole = datetime.fromisoformat(text)
    fraction = re.search(r"\.(\d+)", text)
    digits = fraction[1][:9].ljust(9, "0") if fraction else "0"
    return int(whole.replace(microsecond=0, tzinfo=whole.tzinfo or UTC).timestamp()) * 10**9 + int(digits)


def clean(text: str) -> str:
    """Text without escape sequences, control or direction characters, capped at 4 KiB."""
    plain = CONTROLS.sub("", ESCAPES.sub("", text[: 4 * LONGEST_LINE]))
    return plain.encode(errors="replace")[:LONGEST_LINE].decode(errors="ignore").rstrip()


def log_line(frame: bytes) -> LogLine | None:
    """One frame of a log with timestamps; None when it is not one."""
    stamp, _, text = frame.decode(errors="replace").partition(" ")
    try:
        return LogLine(stamp=nanoseconds(stamp), text=clean(text.rstrip("\r\n").rpartition("\r")[2]))
    except ValueError:
        return None


def effort(stats: Json) -> Effort:
    """What /containers/{id}/stats tells, on either version of cgroups; both leave out what they do not count."""
    moved = (stats.get("blkio_stats") or {}).get("io_service_bytes_recursive") or ()
    read = sum(int(entry["value"]) for entry in moved if str(entry["op"]).lower() == "read")
    return Effort(read=read, memory=int((stats.get("memory_stats") or {}).get("usage") or 0))


def event(line: bytes) -> Event | None:
    """One line of /events; None when it cannot be read."""
    try:
        told = json.loads(line)
        return Event(action=str(told["Action"]), container_name=str(told["Actor"]["Attributes"]["name"]))
    except (ValueError, KeyError, TypeError):
        return None


class Layers:
    """Adds up the layers of a pull. Sizes are learned one by one, so the total grows; nothing shrinks."""

    def __init__(self) -> None:
        self._done: dict[str, int] = {}
        self._total: dict[str, int] = {}

    def heard(self, message: Json) -> bool:
        """Take one message of a pull in; whether it told of bytes."""
        layer, status = str(message.get("id", "")), message.get("status")
        detail = message.get("progressDetail") or {}
        if status == "Downloading" and "current" in detail:
            done = max(self._done.get(layer, 0), int(detail["current"]))
            self._total[layer] = max(self._total.get(layer, 0), int(detail.get("total") or 0), done)
            self._done[layer] = done
        elif status in ("Download complete", "Pull complete") and layer in self._total:
            self._done[layer] = self._total[layer]
        else:
            return False
        return True

    def progress(self) -> PullProgress:
        return PullProgress(done=sum(self._done.values()), total=sum(self._total.values()))


# The one hook that containers of ours have is the GPUs'.
NO_GPUS = ("could not select device driver", "nvidia-container", "nvml", "running hook", "running prestart hook")


def fault(status: int, message: str) -> RuntimeFault:
    """The fault that an HTTP error of the engine means."""
    said = clean(message)
    lowered = said.lower()
    if any(word in lowered for word in NO_GPUS):
        return NoGpuRuntime(
            f"This host cannot give GPUs to containers: {said}.",
            "Install the NVIDIA Container Toolkit on it and restart Docker.",
        )
    if "no space left" in lowered:
        return DiskFull(f"The disk of the container engine is full: {said}.", "Free some space, then try again.")
    return _by_status(status, said, lowered)


def _by_status(status: int, said: str, lowered: str) -> RuntimeFault:
    if status == 404:
        if "image" in lowered:
            return ImageMissing(f"The image is not on this host: {said}.", "Pull it first.")
        return NotFound(f"The container is gone: {said}.")
    if status == 409 and "name" in lowered and "in use" in lowered:
        return NameTaken(f"The container's name is taken: {said}.")
    if status == 400 or "oci runtime" in lowered:
        return SpecRefused(f"The container engine rejects this container: {said}.", "Correct the model's definition.")
    return RuntimeFault(f"The container engine failed (HTTP {status}): {said}.", "See the engine's own log.")


REFUSALS = (
    "denied",
    "unauthorized",
    "not found",
    "does not exist",
    "manifest unknown",
    "invalid reference",
    "no basic auth",
)


def pull_fault(image: str, message: str) -> RuntimeFault:
    """The fault that a failed pull of ``image`` means, judged by the engine's words."""
    said = clean(message)
    lowered = said.lower()
    if "no space left" in lowered:
        return DiskFull(f"No space is left for the image {image}: {said}.", "Free some space, then try again.")
    if any(word in lowered for word in REFUSALS):
        return ImageRefused(
            f"The registry does not give the image {image}: {said}.",
            "Check its name and tag; if it is private, run `docker login` on the host.",
        )
    return Unreachable(
        f"The image {image} did not arrive: {said}.",
        "Check the host's way to the registry, or load the image by hand with `docker load`.",
    )
