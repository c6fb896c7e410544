"""What is on an imaginary host at one moment: images, containers, GPUs, and scripts of how they behave."""

from collections.abc import Sequence
from datetime import datetime, timedelta
from pathlib import Path
from typing import Literal
from uuid import uuid4

from pydantic import BaseModel, ConfigDict, Field

from cortex.runtime.contract import Label, NoGpuRuntime, SpecRefused, State

Verb = Literal[
    "facts",
    "find",
    "inspect",
    "create",
    "start",
    "stop",
    "kill",
    "remove",
    "logs",
    "effort",
    "events",
    "has_image",
    "pull",
    "probe",
]
CHANGING: frozenset[Verb] = frozenset({"create", "start", "stop", "kill", "remove", "pull"})
REMEMBERED_CALLS = 500
REMEMBERED_EVENTS = 256
TERMINATED, KILLED, NOT_STARTED = 143, 137, 128


class Script(BaseModel):
    """How containers of an image, or of a model, behave. Times are seconds, sizes bytes.

    ``load`` passes before the probe is answered, ``exit_after`` before the process ends by itself (None:
    never) with ``exit_code`` and perhaps ``oom``. ``silent_after`` ends all answers while the process runs on,
    ``mute_after`` its pulse while its health is still answered.
    ``gpu_memory`` is taken on each of its GPUs while it runs. Each second it reads ``reads`` bytes from disk and
    takes ``grows`` bytes of memory, until it has ``load``ed or ``stalls_after``.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    load: float = 0.0
    exit_after: float | None = None
    exit_code: int = 0
    oom: bool = False
    silent_after: float | None = None
    mute_after: float | None = None
    ignores_term: bool = False
    lines: tuple[str, ...] = ()
    start_refused: str = Field(default="", description="What the engine says when it cannot start it.")
    gpu_memory: int = 0
    reads: int = 0
    grows: int = 0
    stalls_after: float | None = None
    pull_seconds: float = 0.0
    pull_size: int = 1_000_000_000
    pull_refused: bool = False


class Call(BaseModel):
    """One call that a fake runtime received."""

    verb: Verb
    subject: str = ""


class ImaginaryGpu(BaseModel):
    """A card of the imaginary host; ``total`` and ``used`` in bytes, ``used`` by strangers."""

    uuid: str
    name: str = "Imaginary H200"
    total: int = 141_000_000_000
    used: int = 0


class ImaginaryContainer(BaseModel):
    """One container of the imaginary host."""

    id: str
    name: str
    image: str
    labels: dict[str, str]
    gpus: tuple[str, ...]
    sources: tuple[str, ...]
    address: str
    created_at: datetime
    state: State = State.CREATED
    started_at: datetime | None = None
    finished_at: datetime | None = None
    exit_code: int | None = None
    oom: bool = False
    error: str = ""
    altered: str = ""
    log: list[tuple[int, str]] = []

    def end(self, code: int, at: datetime, *, oom: bool = False) -> None:
        self.state, self.exit_code, self.finished_at, self.oom = State.EXITED, code, at, oom

    def say(self, lines: Sequence[str], at: datetime) -> None:
        """Print lines, each with a stamp of its own."""
        first = int(at.timestamp() * 1_000_000) * 1000
        if self.log:
            first = max(first, self.log[-1][0] + 1)
        self.log += [(first + place, line) for place, line in enumerate(lines)]


class Seen(BaseModel):
    """An event with its number in the order of events."""

    number: int
    install: str
    action: str
    name: str


class Scene(BaseModel):
    """Everything that is on the imaginary host at one moment."""

    name: str = "pretend"
    identity: str = Field(default_factory=lambda: uuid4().hex)
    cores: int = 32
    memory: int = 256 * 2**30
    images: set[str] = set()
    gpus: list[ImaginaryGpu] = []
    gpu_runtime: bool = True
    containers: dict[str, ImaginaryContainer] = {}
    scripts: dict[str, Script] = {}
    down: bool = False
    lost: list[Verb] = []
    calls: list[Call] = []
    seen: list[Seen] = []
    count: int = 0
    engine: str | None = None

    def number(self) -> int:
        self.count += 1
        return self.count

    def script(self, image: str, model: str | None = None) -> Script:
        return self.scripts.get(model or "") or self.scripts.get(image) or Script()

    def script_of(self, container: ImaginaryContainer) -> Script:
        return self.script(container.image, container.labels.get(Label.MODEL))

    def container(self, name: str) -> ImaginaryContainer | None:
        """By id or name."""
        return self.containers.get(name) or next((c for c in self.containers.values() if c.name == name), None)

    def note(self, action: str, container: ImaginaryContainer) -> None:
        install = container.labels.get(Label.INSTALL, "")
        self.seen.append(Seen(number=self.number(), install=install, action=action, name=container.name))
        del self.seen[:-REMEMBERED_EVENTS]

    def advance(self, now: datetime) -> None:
        """Let what should have happened by ``now`` have happened."""
        for container in list(self.containers.values()):
            end = self._end_of(container)
            if end is not None and end <= now:
                script = self.script_of(container)
                container.end(script.exit_code, end, oom=script.oom)
                self.note("die", container)

    def is_due(self, now: datetime) -> bool:
        """Whether something should have happened by ``now`` and has not."""
        ends = map(self._end_of, self.containers.values())
        return bool(self.scripts) and any(end is not None and end <= now for end in ends)

    def _end_of(self, container: ImaginaryContainer) -> datetime | None:
        """When a running container is to end by itself."""
        if container.state is not State.RUNNING or container.started_at is None:
            return None
        after = self.script_of(container).exit_after
        return None if after is None else container.started_at + timedelta(seconds=after)

    def start(self, container: ImaginaryContainer, now: datetime) -> None:
        """Raises NoGpuRuntime, SpecRefused; the container then stays as a failed start leaves it."""
        missing = [source for source in container.sources if not Path(source).exists()]
        if missing:
            raise SpecRefused(f"bind source path does not exist: {missing[0]}.", "Correct the model's definition.")
        fault = self._start_fault(container)
        if fault is not None:
            container.exit_code, container.error = NOT_STARTED, fault.what
            raise fault
        container.state, container.started_at, container.finished_at = State.RUNNING, now, None
        container.exit_code, container.error, container.oom = None, "", False
        container.say(self.script_of(container).lines, now)
        self.note("start", container)
        self.advance(now)

    def _start_fault(self, container: ImaginaryContainer) -> NoGpuRuntime | SpecRefused | None:
        known = {gpu.uuid for gpu in self.gpus}
        if container.gpus and not self.gpu_runtime:
            return NoGpuRuntime("This host cannot give GPUs to containers.", "Install the NVIDIA Container Toolkit.")
        if known and not known.issuperset(container.gpus):
            return NoGpuRuntime(f"This host has no GPU {', '.join(set(container.gpus) - known)}.", "See `cortex gpus`.")
        refused = self.script_of(container).start_refused
        return SpecRefused(refused, "Correct the model's definition.") if refused else None
