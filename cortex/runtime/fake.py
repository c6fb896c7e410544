"""A runtime without a container engine: for tests, and for looking around (`./dev up --pretend`)."""

import secrets
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from typing import TypeVar

from cortex.runtime import payload
from cortex.runtime.contract import (
    Container,
    Effort,
    Event,
    Health,
    HostFacts,
    ImageMissing,
    ImageRefused,
    Label,
    LogLine,
    NameTaken,
    NotFound,
    NotOurs,
    PullProgress,
    Runtime,
    SpecRefused,
    State,
    Stream,
    Unreachable,
)
from cortex.runtime.scene import CHANGING, KILLED, TERMINATED, Call, ImaginaryContainer, Scene, Verb
from cortex.runtime.world import World
from engines.contract import ContainerSpec, Probe

POLL = 0.05
SLOWEST_POLL = 1.0
WINDOW = 60.0
PULL_STEPS = 10
ALIVE = (State.RUNNING, State.PAUSED)


T = TypeVar("T")
Batch = tuple[list[tuple[int, T]], bool]


class _Poll(Stream[T]):
    """Looks again and again. ``look`` takes the last number seen; answers what is newer, and whether all is over.

    What is quiet for long is looked at less often, but not what has a ``window``: events are waited for.
    """

    def __init__(
        self, look: Callable[[int], Batch[T]], after: int, *, follow: bool, window: float | None = None
    ) -> None:
        self._look = look
        self._last = after
        self._follow = follow
        self._slowest = SLOWEST_POLL if window is None else POLL
        self._until = None if window is None else time.monotonic() + window
        self._pause = POLL
        self._closed = threading.Event()
        self._waiting: deque[tuple[int, T]] = deque()

    def __next__(self) -> T:
        while not self._waiting:
            if self._closed.is_set() or (self._until is not None and time.monotonic() > self._until):
                raise StopIteration
            fresh, over = self._look(self._last)
            self._waiting.extend(fresh)
            if not fresh and (over or not self._follow):
                raise StopIteration
            self._pause = POLL if fresh else min(self._pause * 2, self._slowest)
            if not fresh:
                self._closed.wait(self._pause)
        self._last, item = self._waiting.popleft()
        return item

    def close(self) -> None:
        self._closed.set()


class FakeRuntime(Runtime):
    """The containers of one install in an imaginary world."""

    def __init__(self, world: World, install: str, models: Path, *, bind: str = "127.0.0.1") -> None:
        self._world = world
        self._install = install
        self._models = models
        self._bind = bind

    def facts(self) -> HostFacts:
        with self._called("facts") as scene:
            return self._world.facts(scene)

    def find(self) -> list[Container]:
        with self._called("find") as scene:
            return [_seen(found) for found in scene.containers.values() if self._owns(found)]

    def inspect(self, name: str) -> Container | None:
        with self._called("inspect", name) as scene:
            found = scene.container(name)
            return None if found is None else _seen(found)

    def create(self, name: str, spec: ContainerSpec, labels: Mapping[Label, str]) -> str:
        body = payload.creation(spec, {**labels, Label.INSTALL: self._install}, models=self._models, bind=self._bind)
        with self._called("create", name) as scene:
            if spec.image not in scene.images:
                raise ImageMissing(f"The image is not on this host: {spec.image}.", "Pull it first.")
            sources = tuple(mount["Source"] for mount in body["HostConfig"]["Mounts"])
            for source in sources:
                if not Path(source).exists():
                    raise SpecRefused(f"bind source path does not exist: {source}.", "Correct the model's definition.")
            if scene.container(name) is not None:
                raise NameTaken(f"The container's name is taken: {name}.")
            made = ImaginaryContainer(
                id=secrets.token_hex(32),
                name=name,
                image=spec.image,
                labels=body["Labels"],
                gpus=spec.gpus,
                sources=sources,
                address=scene.engine or f"{self._bind}:{32768 + scene.number() % 28000}",
                created_at=self._world.now(),
            )
            scene.containers[made.id] = made
            scene.note("create", made)
            return made.id

    def start(self, container_id: str) -> None:
        with self._called("start", container_id) as scene:
            found = self._own(scene, container_id)
            if found.state not in ALIVE:
                scene.start(found, self._world.now())

    def stop(self, container_id: str, grace: float) -> None:
        with self._called("stop", container_id) as scene:
            found = self._own_or_gone(scene, container_id)
            if found is None or found.state not in ALIVE:
                return
            stubborn = scene.script_of(found).ignores_term
            if not stubborn:
                self._end(scene, found, TERMINATED)
        if stubborn:
            self._world.sleep(grace)
            self._world.end(container_id, KILLED)

    def kill(self, container_id: str) -> None:
        with self._called("kill", container_id) as scene:
            found = self._own_or_gone(scene, container_id)
            if found is not None and found.state in ALIVE:
                self._end(scene, found, KILLED)

    def remove(self, container_id: str) -> None:
        with self._called("remove", container_id) as scene:
            found = self._own_or_gone(scene, container_id)
            if found is None:
                return
            if found.state in ALIVE:
                self._end(scene, found, KILLED)
            del scene.containers[found.id]
            scene.note("destroy", found)

    def logs(
        self, container_id: str, *, since: int | None = None, tail: int | None = None, follow: bool = False
    ) -> Stream[LogLine]:
        with self._called("logs", container_id) as scene:
            log = [line for line in self._own(scene, container_id).log if since is None or line[0] > since]
        kept = len(log) if tail is None else min(tail, len(log))
        after = log[-kept - 1][0] if kept < len(log) else since or 0
        return _Poll(lambda last: self._lines(container_id, last), after, follow=follow)

    def effort(self, container_id: str) -> Effort:
        with self._called("effort", container_id) as scene:
            found = self._own(scene, container_id)
            if found.state not in ALIVE or found.started_at is None:
                return Effort()
            script, age = scene.script_of(found), (self._world.now() - found.started_at).total_seconds()
        busy = min(age, script.load, age if script.stalls_after is None else script.stalls_after)
        return Effort(read=int(busy * script.reads), memory=int(busy * script.grows))

    def events(self) -> Stream[Event]:
        with self._called("events") as scene:
            after = scene.count
        return _Poll(self._events, after, follow=True, window=WINDOW)

    def has_image(self, image: str) -> bool:
        with self._called("has_image", image) as scene:
            return image in scene.images

    def pull(self, image: str, on_progress: Callable[[PullProgress], None]) -> None:
        with self._called("pull", image) as scene:
            script = scene.script(image)
            if script.pull_refused:
                raise ImageRefused(f"The registry does not give the image {image}.", "Check its name and tag.")
        for step in range(1, PULL_STEPS + 1):
            self._world.sleep(script.pull_seconds / PULL_STEPS)
            on_progress(PullProgress(done=script.pull_size * step // PULL_STEPS, total=script.pull_size))
        self._world.add_image(image)

    def probe(self, container: Container, probe: Probe) -> Health:
        with self._world.look() as scene:
            self._world.note(scene, Call(verb="probe", subject=container.name))
            found = scene.container(container.id)
            if scene.down or found is None or found.state is not State.RUNNING or found.started_at is None:
                return Health.SILENT
            script, age = scene.script_of(found), self._world.now() - found.started_at
        quiet_after = [script.silent_after, script.mute_after if probe.any_answer else None]
        if any(after is not None and age >= timedelta(seconds=after) for after in quiet_after):
            return Health.SILENT
        return Health.READY if age >= timedelta(seconds=script.load) else Health.LOADING

    @contextmanager
    def _called(self, verb: Verb, subject: str = "") -> Iterator[Scene]:
        """The scene for one call, which may not be answered."""
        with self._world.open() if verb in CHANGING else self._world.look(verb) as scene:
            self._world.note(scene, Call(verb=verb, subject=subject))
            if scene.down:
                raise Unreachable("The pretend container engine does not answer.", "Bring the world up.")
            if verb in CHANGING:
                scene.advance(self._world.now())
            yield scene
            self._lose(scene, verb)

    def _lose(self, scene: Scene, verb: Verb) -> None:
        if verb in scene.lost:
            scene.lost.remove(verb)
            raise Unreachable(f"The answer to {verb} was lost.", "Look before acting.")

    def _owns(self, container: ImaginaryContainer) -> bool:
        return container.labels.get(Label.INSTALL) == self._install

    def _own(self, scene: Scene, container_id: str) -> ImaginaryContainer:
        found = scene.container(container_id)
        if found is None:
            raise NotFound(f"The container is gone: {container_id[:12]}.")
        if not self._owns(found):
            raise NotOurs(f"Container {container_id[:12]} does not belong to this install.", "It is left alone.")
        return found

    def _own_or_gone(self, scene: Scene, container_id: str) -> ImaginaryContainer | None:
        return None if scene.container(container_id) is None else self._own(scene, container_id)

    def _end(self, scene: Scene, container: ImaginaryContainer, code: int) -> None:
        container.end(code, self._world.now())
        scene.note("die", container)

    def _lines(self, container_id: str, after: int) -> Batch[LogLine]:
        with self._world.look() as scene:
            found = scene.container(container_id)
            log = found.log if found is not None else []
            fresh = [(stamp, LogLine(stamp=stamp, text=text)) for stamp, text in log if stamp > after]
            return fresh, found is None or found.state not in ALIVE or scene.down

    def _events(self, after: int) -> Batch[Event]:
        with self._world.look() as scene:
            down = scene.down
        return self._world.events(after, self._install), down


def _seen(found: ImaginaryContainer) -> Container:
    return Container(
        id=found.id,
        name=found.name,
        image=found.image,
        state=found.state,
        labels=dict(found.labels),
        address=found.address if found.state in ALIVE else None,
        exit_code=found.exit_code,
        oom_killed=found.oom,
        error=found.error,
        created_at=found.created_at,
        started_at=found.started_at,
        finished_at=found.finished_at,
        gpus=found.gpus,
        altered=found.altered,
    )
