"""Kills a process before and after each side effect of a scenario, then lets a fresh one carry on; prints JSON lines.

Run as a module, with a migrated database of its own in DATABASE_URL. Each process is a fork of this one, which
has no connection open: it starts from the rows and the world's file alone, as after a power cut.
"""

import json
import os
import signal
import sys
import time
import traceback
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import django
from django.conf import settings

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "cortex.settings")
django.setup()

from cortex.catalog.models import Model, Order  # noqa: E402
from cortex.fleet.models import Gpu, Host, Install, Replica, Seat  # noqa: E402
from cortex.orchestration import effects, fsck, host_orders, hosts, orders  # noqa: E402
from cortex.orchestration.fetch import fetch  # noqa: E402
from cortex.orchestration.runtimes import Here  # noqa: E402
from cortex.orchestration.sweep import sweep  # noqa: E402
from cortex.runtime.fake import FakeRuntime  # noqa: E402
from cortex.runtime.scene import ImaginaryGpu, Script  # noqa: E402
from cortex.runtime.world import World  # noqa: E402
from engines import engine  # noqa: E402

SWEEPS = 4
RECOVERING = 6
CARD = "GPU-0"
GIB = 1 << 30


def main() -> None:
    name, path = sys.argv[1], Path(sys.argv[2])
    vars(orders)["poke"] = void  # the broker is only a hint, and here there is none
    vars(host_orders).update(poke=void, poke_host=void)
    for result in explore(name, path):
        print(json.dumps(result), flush=True)


def explore(name: str, path: Path) -> Iterator[dict[str, Any]]:
    """One whole run counts the effects; then one run for each, and each moment."""
    counted = path.with_suffix(".count")
    assert in_child(lambda: play(name, path, counted=counted)) == 0, f"{name} does not end by itself"
    names = counted.read_text().split("\n")[:-1]
    yield {"effect": "none", "died": True, **recovery(name, path)}
    for at, effect in enumerate(names):
        if effect not in names[:at]:  # else a later round of the same
            died = in_child(partial(play, name, path, crash_at=at))
            yield {"effect": effect, "died": died == -signal.SIGKILL, **recovery(name, path)}


def recovery(name: str, path: Path) -> dict[str, Any]:
    """Whether the next process converges, in how many seconds, with how many calls that change something."""
    calls = changes(path)
    began = time.monotonic()
    converged = in_child(lambda: recover(name, path)) == 0
    return {
        "converged": converged,
        "seconds": time.monotonic() - began,
        "calls": changes(path) - calls,
    }


def changes(path: Path) -> int:
    return len(World(path).changes()) + len(World(beside(path)).changes())


def beside(path: Path) -> Path:
    """The world of a second host."""
    return path.with_name(f"other-{path.name}")


def in_child(work: Callable[[], None]) -> int:
    """Run in a fork; its exit status, negative when a signal ended it."""
    pid = os.fork()
    if pid:
        status = os.waitpid(pid, 0)[1]
        return os.waitstatus_to_exitcode(status)
    code = 1
    try:
        work()
        code = 0
    except BaseException:  # noqa: BLE001 - nothing may leave the fork but its exit status
        traceback.print_exc()
    finally:
        os._exit(code)


def play(name: str, path: Path, *, counted: Path | None = None, crash_at: int | None = None) -> None:
    """From nothing: prepare, give the order, and take it up, to the end or to a point."""
    here = fresh(path)
    prepare, act, _ = SCENARIOS[name]
    prepare(here)
    point = 0
    with counted.open("w") if counted else open(os.devnull, "w") as names:  # noqa: PTH123

        def watch(effect: str, moment: str) -> None:
            nonlocal point
            names.write(f"{moment} {effect}\n")
            if point == crash_at:
                os.kill(os.getpid(), signal.SIGKILL)
            point += 1

        with effects.watched(watch):
            act()
            settle_down(here)


def recover(name: str, path: Path) -> None:
    """Another process, later: it sweeps, and what people want is so, with nothing left over."""
    here = Here(Host.objects.get(name="test"), runtime(path), World(path).gpus)
    settle_down(here, RECOVERING)
    SCENARIOS[name][2](here)
    wrong = fsck.rows() + [each for one in all_hosts(here) for each in fsck.containers(one.host, one.runtime)]
    assert not wrong, [str(violation) for violation in wrong]


def settle_down(here: Here, sweeps: int = SWEEPS) -> None:
    for _ in range(sweeps):
        for each in all_hosts(here):
            sweep(each)
        for replica in Replica.objects.filter(observed="fetching").select_related("model", "host"):
            fetch(replica, here)
        Replica.objects.update(retry_at=None, failures=0)


def all_hosts(here: Here) -> list[Here]:
    """Its host, and the second one where a scenario has one."""
    other, path = Host.objects.filter(name="other").first(), beside(here_path(here))
    return [here, Here(other, runtime(path), World(path).gpus)] if other else [here]


def fresh(path: Path) -> Here:
    path.unlink(missing_ok=True)
    beside(path).unlink(missing_ok=True)
    for kind in (Seat, Replica, Order, Model, Gpu, Host):
        kind._base_manager.all().delete()
    world = World(path)
    world.add_image(engine("llamacpp").image_for(gpus=True))
    world.add_gpus(ImaginaryGpu(uuid=CARD))
    host = Host.objects.create(name="test")
    Gpu.objects.create(uuid=CARD, host=host, name="L40S", total=48 * GIB)
    here = Here(host, runtime(path), world.gpus)
    hosts.register(here)
    return here


def runtime(path: Path) -> FakeRuntime:
    return FakeRuntime(World(path), Install.identity(), settings.ENV.cortex_models.resolve())


def define(desired: str = "running", **more: Any) -> None:
    data = {"name": "tiny", "engine": "llamacpp", "source": {"path": "tiny.gguf"}, "desired": desired, **more}
    orders.define(data, None)


def running(here: Here) -> None:
    define()
    settle_down(here)


def pulled(here: Here) -> None:
    """Its image is not there yet."""
    with World(here_path(here)).open() as scene:
        scene.images.clear()


def here_path(here: Here) -> Path:
    path = here.runtime._world._path  # type: ignore[attr-defined]
    assert isinstance(path, Path)
    return path


def nothing(here: Here) -> None:
    pass


def running_with_another_host(here: Here) -> None:
    running(here)
    world = World(beside(here_path(here)))
    world.add_image(engine("llamacpp").image_for(gpus=True))
    world.add_gpus(ImaginaryGpu(uuid="GPU-9"))
    other = Host.objects.create(name="other")
    Gpu.objects.create(uuid="GPU-9", host=other, name="L40S", total=48 * GIB)


def half_drained(here: Here) -> None:
    """Its successor is made, and loads elsewhere."""
    running_with_another_host(here)
    World(beside(here_path(here))).script("tiny", Script(load=1000))
    drain()
    settle_down(here)


def drain() -> None:
    host_orders.revise("test", {"draining": True}, None)


def undrain() -> None:
    host_orders.revise("test", {"draining": False}, None)


def crashing(here: Here) -> None:
    running(here)
    World(here_path(here)).end(here.runtime.find()[0].name, 1)


def refused(here: Here) -> None:
    World(here_path(here)).script("tiny", Script(start_refused="no such flag"))


def serves(here: Here) -> None:
    container, replica = here.runtime.find()[0], Replica.objects.get()
    assert len(here.runtime.find()) == 1
    assert (replica.observed, container.state) == ("ready", "running"), (replica.observed, replica.reason)
    assert replica.seats.count() == 1
    assert replica.turn == Model.objects.get().turn


def serves_elsewhere(here: Here) -> None:
    _, other = all_hosts(here)
    assert here.runtime.find() == []
    serves(other)
    assert Replica.objects.get().host == other.host
    assert Gpu.objects.get(uuid=CARD).reserved == 0


def serves_here_alone(here: Here) -> None:
    _, other = all_hosts(here)
    assert other.runtime.find() == []
    serves(here)
    assert Replica.objects.get().attempts.filter(ended_at=None, number=1).exists(), "it was never restarted"


def serves_the_new_definition(here: Here) -> None:
    serves(here)
    assert Replica.objects.get().attempts.first().spec["argv"].count("64")  # type: ignore[union-attr]


def is_stopped(here: Here) -> None:
    assert here.runtime.find() == []
    assert (Replica.objects.get().observed, Replica.objects.get().seats.count()) == ("absent", 0)
    assert Gpu.objects.get().reserved == 0


def is_gone(here: Here) -> None:
    assert here.runtime.find() == []
    assert not Model.objects.exists()
    assert Gpu.objects.get().reserved == 0


def left_nothing(here: Here) -> None:
    assert here.runtime.find() == []
    assert Replica.objects.get().attempts.exclude(ended_at=None).exists()


def stop() -> None:
    orders.stop("tiny", None)


def wait() -> None:
    pass


SCENARIOS: dict[str, tuple[Callable[[Here], None], Callable[[], None], Callable[[Here], None]]] = {
    "start": (nothing, define, serves),
    "start with a pull": (pulled, define, serves),
    "start that is refused": (refused, define, left_nothing),
    "crash": (crashing, wait, serves),
    "stop": (running, stop, is_stopped),
    "restart": (running, lambda: void(orders.restart("tiny", None)), serves),
    "edit": (running, lambda: define(options={"batch_size": 64}), serves_the_new_definition),
    "drain": (running_with_another_host, drain, serves_elsewhere),
    "undrain": (half_drained, undrain, serves_here_alone),
    "delete": (running, lambda: void(orders.remove("tiny", None)), is_gone),
}


def void(_: object) -> None:
    pass


if __name__ == "__main__":
    main()
