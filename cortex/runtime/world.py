"""An imaginary host for the fake runtime, in memory or in a JSON file that several processes share under a lock."""

import fcntl
import os
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path

from cortex.runtime.contract import Event, HostFacts, State
from cortex.runtime.gpus import Gpu, Gpus
from cortex.runtime.scene import CHANGING, KILLED, REMEMBERED_CALLS, Call, ImaginaryGpu, Scene, Script, Verb


class World:
    """The imaginary host. ``now`` and ``sleep`` are its clock."""

    def __init__(
        self,
        path: Path | None = None,
        *,
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self.now = now
        self.sleep = sleep
        self._path = path
        self._scene = Scene()
        self._read: tuple[int, int] | None = None
        self._mutex = threading.RLock()

    @contextmanager
    def open(self) -> Iterator[Scene]:
        """The scene as it is, alone with it: what is changed inside is kept, also when something is raised."""
        if self._path is None:
            with self._mutex:
                yield self._scene
            return
        with self._mutex, self._path.with_suffix(".lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            scene = self._current(self._path)
            try:
                yield scene
            finally:
                self._write(self._path, scene)

    @contextmanager
    def look(self, verb: Verb | None = None) -> Iterator[Scene]:
        """The same for one who only looks, at what is there by now: cheap, when nothing has changed since last time."""
        with self._mutex:
            scene = self._current(self._path) if self._path else self._scene
            if self._read and not scene.is_due(self.now()) and verb not in scene.lost:
                yield scene
                return
        with self.open() as scene:
            scene.advance(self.now())
            yield scene

    def _current(self, path: Path) -> Scene:
        """What the file holds, read only when another process wrote it."""
        try:
            found = path.stat()
        except FileNotFoundError:
            self._scene, self._read = Scene(), None
            return self._scene
        if self._read != (found.st_ino, found.st_mtime_ns):
            self._scene = Scene.model_validate_json(path.read_bytes())
            self._read = (found.st_ino, found.st_mtime_ns)
        return self._scene

    def _write(self, path: Path, scene: Scene) -> None:
        fresh = path.with_suffix(".new")
        fresh.write_text(scene.model_dump_json())
        # The kernel's own stamps are too coarse to tell two quick writes apart.
        os.utime(fresh, ns=(stamp := time.time_ns(), stamp))
        found = fresh.stat()
        fresh.replace(path)
        self._read = (found.st_ino, found.st_mtime_ns)

    def note(self, scene: Scene, call: Call) -> None:
        """Remember a call; of those that change nothing, only a world in memory keeps account."""
        if self._path is None or call.verb in CHANGING:
            scene.calls.append(call)
            del scene.calls[:-REMEMBERED_CALLS]

    def script(self, of: str, script: Script) -> None:
        """Say how containers of this image, or of this model, behave."""
        with self.open() as scene:
            scene.scripts[of] = script

    def add_image(self, *images: str) -> None:
        with self.open() as scene:
            scene.images.update(images)

    def add_gpus(self, *gpus: ImaginaryGpu) -> None:
        with self.open() as scene:
            scene.gpus.extend(gpus)

    def take_down(self) -> None:
        """From now on nothing answers."""
        with self.open() as scene:
            scene.down = True

    def bring_up(self) -> None:
        with self.open() as scene:
            scene.down = False

    def lose_answer(self, verb: Verb) -> None:
        """The next such call does what it is asked, but its answer is lost."""
        with self.open() as scene:
            scene.lost.append(verb)

    def end(self, name: str, code: int = KILLED, *, oom: bool = False) -> None:
        """Somebody else, or the kernel, ends a container."""
        with self.open() as scene:
            container = scene.container(name)
            if container is not None and container.state in (State.RUNNING, State.PAUSED):
                container.end(code, self.now(), oom=oom)
                scene.note("die", container)

    def pause(self, name: str) -> None:
        with self.open() as scene:
            container = scene.container(name)
            if container is not None and container.state is State.RUNNING:
                container.state = State.PAUSED
                scene.note("pause", container)

    def write(self, name: str, *lines: str) -> None:
        """A container prints lines."""
        with self.open() as scene:
            container = scene.container(name)
            if container is not None:
                container.say(lines, self.now())

    def calls(self) -> list[Call]:
        """The last 500 calls."""
        with self.open() as scene:
            return list(scene.calls)

    def changes(self) -> list[Call]:
        """Those of the calls that would change something."""
        return [call for call in self.calls() if call.verb in CHANGING]

    def facts(self, scene: Scene) -> HostFacts:
        return HostFacts(scene.name, scene.identity, cores=scene.cores, memory=scene.memory, version="pretend")

    def events(self, after: int, install: str) -> list[tuple[int, Event]]:
        """Events numbered above ``after``."""
        with self.look() as scene:
            return [
                (seen.number, Event(action=seen.action, container_name=seen.name))
                for seen in scene.seen
                if seen.number > after and seen.install == install
            ]

    def gpus(self) -> Gpus:
        """The imaginary cards, with what running containers take of them."""
        with self.look() as scene:
            cards = tuple(self._card(index, gpu, scene) for index, gpu in enumerate(scene.gpus))
        return Gpus(cards=cards, driver="pretend", condition="")

    def _card(self, index: int, gpu: ImaginaryGpu, scene: Scene) -> Gpu:
        running = [c for c in scene.containers.values() if c.state is State.RUNNING and gpu.uuid in c.gpus]
        used = gpu.used + sum(scene.script_of(container).gpu_memory for container in running)
        return Gpu(
            uuid=gpu.uuid,
            index=index,
            name=gpu.name,
            total=gpu.total,
            used=min(used, gpu.total),
            utilisation=40 if running else 0,
            temperature=55 if running else 35,
            power=300.0 if running else 75.0,
            processes=(),
        )
