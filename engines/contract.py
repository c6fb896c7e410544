"""What an engine is: typed options in, the container it needs out. Pure: no I/O, no Docker, no Django."""

import hashlib
import json
import re
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from pathlib import PurePosixPath
from typing import ClassVar, Literal

from pydantic import BaseModel, ConfigDict, Field

from engines.habits import MemoryHabits

Task = Literal["generate", "embed", "rerank"]
Milestone = Literal["weights", "cache"]


class Frozen(BaseModel):
    """A value: immutable, and strict about unknown fields."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class Options(Frozen):
    """What people may set for an engine. Each engine subclasses it.

    Every field carries a title, a one-line description and its bounds: the JSON Schema draws the form,
    documents the API and checks the command line. ``None`` means "the engine's own default";
    zero and false are values and reach the command line. ``json_schema_extra={"flag": "--x"}`` names the
    engine's flag, ``{"advanced": True}`` hides a field behind "more options".
    """


class ModelFiles(Frozen):
    """Where the weights are, as a container sees them, and how large they are."""

    path: PurePosixPath = Field(description="Folder (safetensors) or file (GGUF) inside the container.")
    size: int = Field(ge=0, description="Bytes to load, all parts summed.")


class Launch(Frozen):
    """One wish to run a model on one host: everything an engine needs to say what its container is.

    ``host_models`` is the models folder on the host; it is mounted read-only at ``MODELS``.
    ``gpus`` are UUIDs; empty means CPU only. ``cores`` are the host's.
    ``context`` is tokens per user, ``users`` how many at once; ``None`` leaves both to the engine.
    """

    served_name: str
    files: ModelFiles
    host_models: str
    options: Mapping[str, object]
    context: int | None = None
    users: int | None = None
    gpus: tuple[str, ...] = ()
    cores: int = 1
    image: str | None = None


MODELS = PurePosixPath("/models")
PULSE_SECONDS = 10.0


class Mount(Frozen):
    """A bind mount. Sources are checked by the runtime to lie under the configured models folder."""

    source: str
    target: str
    read_only: bool = True


class Probe(Frozen):
    """How readiness is asked from outside: 200 is ready, 503 is loading, silence is not up yet.

    With a ``body`` it is POSTed as JSON. Where ``any_answer`` will do, whatever comes back in time is ready.
    """

    path: str = "/health"
    body: str = ""
    any_answer: bool = False
    timeout: float = Field(default=3.0, description="Seconds for one answer.")


class ContainerSpec(Frozen):
    """What a container must be. Engines write it, runtimes obey it; neither adds to it in secret.

    ``argv`` is a list and is never seen by a shell. ``entrypoint`` replaces the image's when set.
    ``pulse`` asks whether the engine still computes: a server may say that it is well while it does not.
    ``shm`` and ``memory`` are bytes. ``start_deadline`` and ``stop_grace`` are seconds.
    """

    image: str
    argv: tuple[str, ...]
    entrypoint: tuple[str, ...] | None = None
    env: Mapping[str, str] = {}
    mounts: tuple[Mount, ...] = ()
    tmpfs: tuple[str, ...] = ("/tmp",)  # noqa: S108 - a mount inside the container
    port: int = 8000
    gpus: tuple[str, ...] = ()
    shm: int | None = None
    memory: int | None = None
    probe: Probe = Probe()
    pulse: Probe | None = None
    start_deadline: float = 120.0
    stop_grace: float = 10.0

    def fingerprint(self) -> str:
        """Sixteen hex digits that change when what runs must change.

        Deadlines and probes are how we watch a container, not what it is: they are left out.
        """
        what = self.model_dump(mode="json", exclude={"probe", "pulse", "start_deadline", "stop_grace"})
        return hashlib.sha256(json.dumps(what, sort_keys=True).encode()).hexdigest()[:16]


class Diagnosis(Frozen):
    """Why a container ended, in words, with what to do next.

    ``permanent`` means that another try with the same definition ends the same way.
    """

    cause: str
    remedy: str
    permanent: bool
    line: str = Field(description="The log line that shows it; empty when exit facts alone do.")


class Engine(ABC):
    """A kind of server. One subclass in one file of this package; defining it registers it."""

    name: ClassVar[str]
    title: ClassVar[str]
    summary: ClassVar[str]
    Options: ClassVar[type[Options]]
    image: ClassVar[str]
    formats: ClassVar[frozenset[Literal["gguf", "safetensors"]]]
    tasks: ClassVar[frozenset[Task]]
    milestones: ClassVar[Mapping[Milestone, str]] = {}

    def image_for(self, *, gpus: bool) -> str:
        """The image a replica runs when its definition names none, on cards or on the CPU."""
        return self.image

    @abstractmethod
    def spec(self, launch: Launch) -> ContainerSpec:
        """The container that serves ``launch``. Raises pydantic.ValidationError on options that are not valid."""

    def memory(self, launch: Launch) -> MemoryHabits | None:
        """How this engine uses memory for ``launch``; None where nobody has worked it out, so that nobody guesses.

        Raises pydantic.ValidationError on options that are not valid.
        """
        return None

    def options_for(self, habits: Mapping[str, object]) -> dict[str, object]:
        """The options that bring about these habits (names as in ``memory``'s options); what none sets is left out."""
        return {}

    def milestone(self, line: str) -> Milestone | None:
        """The step of a start that this line of its log tells: all weights are loaded, or its cache has its size.

        ``milestones`` holds a regular expression for each step that the engine tells.
        """
        return next((step for step, pattern in self.milestones.items() if re.search(pattern, line)), None)

    @abstractmethod
    def diagnose(self, log: Sequence[str], exit_code: int | None) -> Diagnosis | None:
        """Why this engine ended, judged by its last log lines; None when nothing is recognised."""


def start_deadline(size: int, *, floor: float = 60.0, rate: float = 100e6) -> float:
    """Seconds a start may take: ``floor`` for the process plus ``size`` bytes at ``rate`` bytes/s.

    100 MB/s is a slow disk: a start that takes longer shows no progress, not patience.
    """
    return floor + size / rate
