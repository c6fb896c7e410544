"""GPUs as NVIDIA's library tells them. Asked in a process of its own: a lost card can hang the library for ever."""

import json
import os
import selectors
import subprocess
import sys
import time
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import pynvml

ROOT = Path(__file__).parents[2]
CONDITIONS = {
    pynvml.NVML_ERROR_LIBRARY_NOT_FOUND: "No NVIDIA driver is installed: its library libnvidia-ml.so.1 is missing.",
    pynvml.NVML_ERROR_DRIVER_NOT_LOADED: "The NVIDIA driver is not loaded: run `nvidia-smi` on the host.",
    pynvml.NVML_ERROR_LIB_RM_VERSION_MISMATCH: "The NVIDIA driver was updated while it ran: restart the host.",
    pynvml.NVML_ERROR_GPU_IS_LOST: "A GPU has fallen off the bus: restart the host.",
    pynvml.NVML_ERROR_NO_PERMISSION: "This user may not ask the NVIDIA driver: give it access to /dev/nvidia*.",
}
HUNG = "The NVIDIA driver does not answer: restart the host."


@dataclass(frozen=True)
class Process:
    """What a process holds on a card; ``memory`` in bytes, None where the driver does not tell."""

    pid: int
    memory: int | None


@dataclass(frozen=True)
class Gpu:
    """One card: ``total`` and ``used`` in bytes, ``utilisation`` in %, ``temperature`` in °C, ``power`` in W.

    What a card does not tell is None. A card that does not answer has its fault in ``condition``.
    """

    uuid: str
    index: int
    name: str
    total: int
    used: int
    utilisation: int | None = None
    temperature: int | None = None
    power: float | None = None
    processes: tuple[Process, ...] = ()


@dataclass(frozen=True)
class Gpus:
    """The cards of a host. ``condition`` says in words why there are none, or why some do not answer."""

    cards: tuple[Gpu, ...] = ()
    driver: str = ""
    condition: str = ""


_stuck: list["subprocess.Popen[bytes]"] = []


def read(timeout: float = 10.0) -> Gpus:
    """Ask every card once. Never raises, and takes ``timeout`` seconds at most."""
    sampler = Sampler()
    try:
        return sampler.read(timeout)
    finally:
        sampler.close()


class Sampler:
    """Asks every card, again and again, by one process that stays: to start one costs more than to ask."""

    def __init__(self) -> None:
        self._child: subprocess.Popen[bytes] | None = None

    def read(self, timeout: float = 10.0) -> Gpus:
        """Never raises, and takes ``timeout`` seconds at most."""
        _stuck[:] = [child for child in _stuck if child.poll() is None]
        if _stuck:
            return Gpus(condition=HUNG)
        self._child = child = self._child or _begin()
        try:
            answer = _ask_child(child, timeout)
        except TimeoutError:
            self._child = None
            _leave(child)
            return Gpus(condition=HUNG)
        found = _from_json(json.loads(answer)) if answer else Gpus(condition=_last_words(child))
        if found.condition:  # the library that it loaded may be of a driver that is gone
            self.close()
        return found

    def close(self) -> None:
        """End the process that asks."""
        child, self._child = self._child, None
        if child is not None:
            child.kill()
            child.communicate()


def _begin() -> "subprocess.Popen[bytes]":
    command = [sys.executable, "-m", __spec__.name]
    pipe = subprocess.PIPE
    return subprocess.Popen(command, cwd=ROOT, stdin=pipe, stdout=pipe, stderr=pipe)


def _ask_child(child: "subprocess.Popen[bytes]", timeout: float) -> bytes:
    """One line of answer; empty when it ended instead. Raises TimeoutError."""
    if child.stdin is None or child.stdout is None:
        return b""
    until, answer = time.monotonic() + timeout, b""
    with suppress(BrokenPipeError), selectors.DefaultSelector() as selector:
        selector.register(child.stdout, selectors.EVENT_READ)
        child.stdin.write(b"\n")
        child.stdin.flush()
        while not answer.endswith(b"\n"):
            if not selector.select(max(until - time.monotonic(), 0)):
                raise TimeoutError
            piece = os.read(child.stdout.fileno(), 1 << 16)
            if not piece:
                return b""
            answer += piece
    return answer


def _leave(child: "subprocess.Popen[bytes]") -> None:
    """A process inside a hung driver may outlive its KILL: it is not waited for."""
    child.kill()
    for end in (child.stdin, child.stdout, child.stderr):
        if end is not None:
            end.close()
    _stuck.append(child)


def _last_words(child: "subprocess.Popen[bytes]") -> str:
    _, complaint = child.communicate()
    last = (complaint.decode(errors="replace").strip().splitlines() or ["nothing"])[-1]
    return f"Asking the GPUs ended with status {child.returncode}: {last}"


def _from_json(told: dict[str, Any]) -> Gpus:
    cards = (
        Gpu(**{**card, "processes": tuple(Process(**process) for process in card["processes"])})
        for card in told["cards"]
    )
    return Gpus(cards=tuple(cards), driver=told["driver"], condition=told["condition"])


def ask() -> Gpus:
    """Ask every card in this process: only for Sampler's own child, since it may hang."""
    try:
        pynvml.nvmlInit()
    except pynvml.NVMLError as fault:
        return Gpus(condition=_words(fault))
    try:
        return _ask_all()
    except pynvml.NVMLError as fault:
        return Gpus(condition=_words(fault))
    finally:
        pynvml.nvmlShutdown()


def _ask_all() -> Gpus:
    cards, conditions = [], []
    for index in range(pynvml.nvmlDeviceGetCount()):
        try:
            cards.append(_card(index))
        except pynvml.NVMLError as fault:
            conditions.append(f"GPU {index}: {_words(fault)}")
    if not cards and not conditions:
        conditions.append("The NVIDIA driver sees no GPU.")
    return Gpus(cards=tuple(cards), driver=pynvml.nvmlSystemGetDriverVersion(), condition=" ".join(conditions))


def _card(index: int) -> Gpu:
    handle = pynvml.nvmlDeviceGetHandleByIndex(index)
    memory = pynvml.nvmlDeviceGetMemoryInfo(handle)
    utilisation = _optional(pynvml.nvmlDeviceGetUtilizationRates, handle)
    power = _optional(pynvml.nvmlDeviceGetPowerUsage, handle)
    processes = _optional(pynvml.nvmlDeviceGetComputeRunningProcesses, handle) or []
    return Gpu(
        uuid=pynvml.nvmlDeviceGetUUID(handle),
        index=index,
        name=pynvml.nvmlDeviceGetName(handle),
        total=memory.total,
        used=memory.used,
        utilisation=None if utilisation is None else utilisation.gpu,
        temperature=_optional(pynvml.nvmlDeviceGetTemperature, handle, pynvml.NVML_TEMPERATURE_GPU),
        power=None if power is None else power / 1000,
        processes=tuple(Process(process.pid, process.usedGpuMemory) for process in processes),
    )


def _optional(ask_card: Any, *arguments: Any) -> Any:
    """What a card may not be able to tell: None then. A lost card is a fault all the same."""
    try:
        return ask_card(*arguments)
    except (pynvml.NVMLError_NotSupported, pynvml.NVMLError_NoPermission, pynvml.NVMLError_FunctionNotFound):
        return None


def _words(fault: pynvml.NVMLError) -> str:
    return CONDITIONS.get(fault.value, f"The NVIDIA driver says: {fault}.")


def _answer_each() -> None:
    """An answer for each line that comes, until none can come any more."""
    for _ in sys.stdin.buffer:
        sys.stdout.write(json.dumps(asdict(ask())) + "\n")
        sys.stdout.flush()


if __name__ == "__main__":
    _answer_each()
