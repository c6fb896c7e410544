"""The body of a container's creation: one function builds it, and nothing outside its envelope passes."""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from cortex.runtime.contract import Label, SpecRefused
from engines.contract import ContainerSpec, Mount

Json = dict[str, Any]

PIDS = 16_384
LOG = {"Type": "json-file", "Config": {"max-size": "10m", "max-file": "3"}}
# Compilers of kernels load what they write to /tmp, so it must not be noexec.
TMPFS = "rw,exec,nosuid,nodev,mode=1777"
GPU_PREFIXES = ("GPU-", "MIG-")
VISIBLE = "NVIDIA_VISIBLE_DEVICES"


def creation(spec: ContainerSpec, labels: Mapping[Label, str], *, models: Path, bind: str) -> Json:
    """What the engine is asked to create.

    ``models`` is the one folder that may be mounted, ``bind`` the host address that ports are published on.
    The root file system stays writable: vLLM, Triton and torch write their caches below the image's home.
    Raises SpecRefused.
    """
    port = f"{spec.port}/tcp"
    body: Json = {
        "Image": spec.image,
        "Cmd": list(spec.argv),
        "Env": _environment(spec),
        "Labels": {str(label): value for label, value in labels.items()},
        "ExposedPorts": {port: {}},
        "Healthcheck": {"Test": ["NONE"]},
        "HostConfig": {
            "RestartPolicy": {"Name": "no"},
            "AutoRemove": False,
            "Init": True,
            "Privileged": False,
            "CapDrop": ["ALL"],
            "SecurityOpt": ["no-new-privileges"],
            "IpcMode": "private",
            "PidsLimit": PIDS,
            "LogConfig": LOG,
            "Mounts": [_mount(mount, models) for mount in spec.mounts],
            "Tmpfs": dict.fromkeys(spec.tmpfs, TMPFS),
            "PortBindings": {port: [{"HostIp": bind, "HostPort": ""}]},
            "DeviceRequests": _devices(spec.gpus),
            **_limits(spec),
        },
    }
    if spec.entrypoint is not None:
        body["Entrypoint"] = list(spec.entrypoint)
    return body


def _environment(spec: ContainerSpec) -> list[str]:
    if VISIBLE in spec.env:
        raise SpecRefused(f"{VISIBLE} may not be set by hand.", "Choose GPUs in the model's definition instead.")
    env = dict(spec.env)
    if not spec.gpus:
        # An image may say "all" by itself; only "void" keeps every GPU out.
        env[VISIBLE] = "void"
    return [f"{name}={value}" for name, value in env.items()]


def _devices(gpus: tuple[str, ...]) -> list[Json]:
    if not gpus:
        return []
    for gpu in gpus:
        if not gpu.startswith(GPU_PREFIXES):
            raise SpecRefused(f"'{gpu}' is not the UUID of a GPU.", "GPUs are named by UUID, as `nvidia-smi -L` shows.")
    return [{"Driver": "nvidia", "Count": 0, "DeviceIDs": list(gpus), "Capabilities": [["gpu"]], "Options": {}}]


def _limits(spec: ContainerSpec) -> Json:
    limits: Json = {}
    if spec.shm is not None:
        limits["ShmSize"] = spec.shm
    if spec.memory is not None:
        limits["Memory"] = limits["MemorySwap"] = spec.memory
    return limits


def _mount(mount: Mount, models: Path) -> Json:
    return {
        "Type": "bind",
        "Source": mountable(mount.source, models),
        "Target": mount.target,
        "ReadOnly": mount.read_only,
    }


def mountable(source: str, models: Path) -> str:
    """The real path of ``source`` if it lies in the models folder. Raises SpecRefused when it does not."""
    real, root = os.path.realpath(source), os.path.realpath(models)
    if not Path(source).is_absolute() or not Path(real).is_relative_to(root):
        raise SpecRefused(
            f"'{source}' lies outside the models folder '{models}'.",
            "Only files under the models folder may be mounted: move the model there.",
        )
    return real
