"""What runs containers on one host, and the words it answers in. Implemented by docker.py and fake.py."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from types import TracebackType
from typing import Self, TypeVar

from engines.contract import ContainerSpec, Probe

T = TypeVar("T")


class Label(StrEnum):
    """Labels on every container of ours. Labels cannot change, so they are evidence, not state."""

    INSTALL = "cortex.install"
    REPLICA = "cortex.replica"
    MODEL = "cortex.model"
    TURN = "cortex.turn"
    FINGERPRINT = "cortex.fingerprint"
    ATTEMPT = "cortex.attempt"


class State(StrEnum):
    """A container's life as the runtime tells it."""

    CREATED = "created"
    RUNNING = "running"
    PAUSED = "paused"
    EXITED = "exited"


class Health(StrEnum):
    """One answer of a probe."""

    READY = "ready"
    LOADING = "loading"
    SILENT = "silent"


@dataclass(frozen=True)
class Container:
    """A container as it was at the moment of asking.

    ``address`` is host:port as published, read back from the runtime; None while not running.
    ``error`` is the runtime's own word on why a start failed: such a container stays CREATED.
    ``exit_code`` is None until it ended or failed to start. ``gpus`` are the UUIDs it was given.
    ``altered`` says what somebody changed of it since it was made; empty when nothing.
    """

    id: str
    name: str
    image: str
    state: State
    labels: Mapping[str, str]
    address: str | None = None
    exit_code: int | None = None
    oom_killed: bool = False
    error: str = ""
    created_at: datetime | None = None
    started_at: datetime | None = None
    finished_at: datetime | None = None
    gpus: tuple[str, ...] = ()
    altered: str = ""


@dataclass(frozen=True)
class HostFacts:
    """What a host is: ``memory`` in bytes, ``version`` of the container engine, ``identity`` its own id."""

    name: str
    identity: str
    cores: int
    memory: int
    version: str


@dataclass(frozen=True)
class LogLine:
    """One line of a container's output: text without control characters, capped at 4 KiB.

    ``stamp`` is nanoseconds since 1970: finer than a datetime, so that no line is doubled or lost.
    """

    stamp: int
    text: str

    @property
    def at(self) -> datetime:
        return datetime(1970, 1, 1, tzinfo=UTC) + timedelta(microseconds=self.stamp // 1000)


@dataclass(frozen=True)
class Effort:
    """What a container did so far, in bytes: ``read`` from disks since its start, ``memory`` that it holds.

    ``memory`` counts what the host keeps of the files it read. Each is 0 where the host does not count it.
    """

    read: int = 0
    memory: int = 0


@dataclass(frozen=True)
class Event:
    """Something happened to a container of ours. A hint to look, never a fact to act upon."""

    action: str
    container_name: str


@dataclass(frozen=True)
class PullProgress:
    """Bytes of an image on their way, over all layers; never goes backwards."""

    done: int
    total: int


class Stream(Iterator[T], ABC):
    """Answers as they come. Iterate in one thread; close() from any, and iteration ends within a second."""

    @abstractmethod
    def close(self) -> None:
        """End it; closing twice does nothing."""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, fault: BaseException | None, at: TracebackType | None) -> None:
        self.close()


class RuntimeFault(Exception):
    """A call to the runtime did not do what it was asked.

    ``unknown``: it may have happened all the same (timeout, cut connection): look before acting.
    ``permanent``: the same call will fail again. ``remedy`` says what a person can do next.
    """

    permanent = False
    unknown = False

    def __init__(self, what: str, remedy: str = "") -> None:
        super().__init__(what)
        self.what = what
        self.remedy = remedy

    def __str__(self) -> str:
        return f"{self.what} {self.remedy}".strip()


class Unreachable(RuntimeFault):
    """No answer, or a cut one: the outcome is unknown."""

    unknown = True


class NameTaken(RuntimeFault):
    """A container of this name exists; ask inspect() whose it is."""


class NotFound(RuntimeFault):
    """No such container."""


class NotOurs(RuntimeFault):
    """The container belongs to another install or to nobody: it is never touched."""

    permanent = True


class ImageMissing(RuntimeFault):
    """The image is not on this host; pull it first."""


class ImageRefused(RuntimeFault):
    """The registry will not give this image: it does not exist or needs credentials."""

    permanent = True


class SpecRefused(RuntimeFault):
    """The runtime rejects this spec (missing mount, bad command): trying again changes nothing."""

    permanent = True


class NoGpuRuntime(RuntimeFault):
    """The host cannot give GPUs to containers: the host's condition, not the model's fault."""


class DiskFull(RuntimeFault):
    """No space is left for an image, a container or a model."""


class ModelRefused(RuntimeFault):
    """The hub will not give this model: it does not exist, is gated, or has no such revision or file."""

    permanent = True


class Runtime(ABC):
    """The containers of one install on one host.

    Obligations of every implementation:
    - sees and touches only containers that bear its own install id;
    - every call is bounded in time; a call whose outcome is not known raises Unreachable;
    - start, stop, kill and remove return silently when the container is already there (started,
      stopped, killed, gone), and raise NotOurs for a container of somebody else;
    - logs and events are hostile input: decoded with replacement, stripped, capped.
    """

    @abstractmethod
    def facts(self) -> HostFacts:
        """The host, asked now. Raises Unreachable when the engine does not answer."""

    @abstractmethod
    def find(self) -> list[Container]:
        """Every container of this install, running or not. Raises Unreachable."""

    @abstractmethod
    def inspect(self, name: str) -> Container | None:
        """The container of this name, whoever's it is (judge by its labels); None when there is none.

        A full id serves as well as a name.
        """

    @abstractmethod
    def create(self, name: str, spec: ContainerSpec, labels: Mapping[Label, str]) -> str:
        """Make a container and return its id. Never pulls.

        Restart policy ``no``; init; no privileges; log rotation; GPUs by UUID only; the port is assigned by
        the runtime on the configured address; mounts lie under the models folder. The install label is added.
        Raises NameTaken, ImageMissing, SpecRefused, Unreachable.
        """

    @abstractmethod
    def start(self, container_id: str) -> None:
        """Raises NotFound, NoGpuRuntime, SpecRefused, Unreachable."""

    @abstractmethod
    def stop(self, container_id: str, grace: float) -> None:
        """TERM now, KILL after ``grace`` seconds; returns once it has ended."""

    @abstractmethod
    def kill(self, container_id: str) -> None:
        """KILL now."""

    @abstractmethod
    def remove(self, container_id: str) -> None:
        """Remove a container with its anonymous volumes; one that still runs is killed first."""

    @abstractmethod
    def logs(
        self, container_id: str, *, since: int | None = None, tail: int | None = None, follow: bool = False
    ) -> Stream[LogLine]:
        """Lines in order, none doubled. Following ends when the container does.

        ``since`` is the stamp of the last line seen: only later lines come. Raises NotFound, Unreachable.
        """

    @abstractmethod
    def effort(self, container_id: str) -> Effort:
        """How much it reads and holds, asked now: evidence that a slow start goes on. Nothing while it does not run.

        Raises NotFound, Unreachable.
        """

    @abstractmethod
    def events(self) -> Stream[Event]:
        """What happens to containers of this install from now on.

        The end of iteration means: look at everything, then ask again. It comes at a disconnect, and after
        about a minute in any case, since a half-open connection cannot be told from silence.
        """

    @abstractmethod
    def has_image(self, image: str) -> bool:
        """Whether the image is on this host."""

    @abstractmethod
    def pull(self, image: str, on_progress: Callable[[PullProgress], None]) -> None:
        """Fetch an image. Raises ImageRefused, DiskFull, Unreachable. ``on_progress`` may raise to cancel."""

    @abstractmethod
    def probe(self, container: Container, probe: Probe) -> Health:
        """Ask a container's server from outside; never raises for what the server does. Bounded read, no redirects."""

    def probe_all(self, asked: Sequence[tuple[Container, Probe]]) -> list[Health]:
        """The same of many, in their order; a runtime that can asks them side by side."""
        return [self.probe(container, probe) for container, probe in asked]
