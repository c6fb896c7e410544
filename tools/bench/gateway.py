"""`./dev bench gateway`: what the gateway costs, against the same engine without it, in turns within one run."""

import asyncio
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.error import URLError
from urllib.request import urlopen

from tools import services
from tools.bench.load import Took, late, load, middle

ROUNDS = 3
CORES = sorted(os.sched_getaffinity(0))  # the gateway gets one, the mock and the load share the other
ROWS = """
from cortex.access.models import ApiKey, Person
from cortex.catalog.models import Model
from cortex.fleet.models import Replica
model = Model.objects.create(name="mock", engine="llamacpp", path="mock.gguf", desired="running")
Replica.objects.create(model=model, slot=0, observed="ready", address="127.0.0.1:{port}")
print(ApiKey.objects.issue(Person.objects.create(username="bench"), "bench", ["infer"])[1])
"""


@contextmanager
def process(core: int, *words: str, **more: str) -> Iterator[int]:
    """A process on one core, where there are several."""
    running = subprocess.Popen(
        [sys.executable, "-W", "ignore", *words],
        env=os.environ | more,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        preexec_fn=lambda: os.sched_setaffinity(0, {CORES[core % len(CORES)]}),
    )
    try:
        yield running.pid
    finally:
        running.terminate()
        running.wait(20)


def prepare(folder: Path, port: int) -> tuple[dict[str, str], str]:
    """A database with one model whose engine is the mock; the environment, and a key."""
    env = {"DATABASE_URL": services.postgres(folder / "postgres"), "CORTEX_STATE": str(folder / "state")}
    manage = [sys.executable, "-W", "ignore", "manage.py"]
    subprocess.run([*manage, "migrate", "-v", "0"], env=os.environ | env, check=True)
    rows = [*manage, "shell", "-v", "0", "-c", ROWS.format(port=port)]
    said = subprocess.run(rows, env=os.environ | env, check=True, capture_output=True, text=True)
    return env, said.stdout.strip().splitlines()[-1]


def wait_until_up(port: int) -> None:
    until = time.monotonic() + 30
    while time.monotonic() < until:
        try:
            with urlopen(f"http://127.0.0.1:{port}/health", timeout=2):
                return
        except URLError:
            time.sleep(0.1)
    raise RuntimeError("the gateway did not come up")


async def in_turns(ports: tuple[int, int], measure: Callable[[int], Awaitable[Took]]) -> tuple[Took, Took]:
    """Direct and through the gateway, round by round: a busy moment of the machine meets both."""
    direct, through = Took(), Took()
    for _ in range(ROUNDS):
        direct.add(await measure(ports[0]))
        through.add(await measure(ports[1]))
    return direct, through


def busy_seconds(master: int) -> float:
    """Processor time that the children of a process have used: the same however busy the machine is."""
    children = Path(f"/proc/{master}/task/{master}/children").read_text().split()
    fields = [Path(f"/proc/{child}/stat").read_text().rpartition(")")[2].split() for child in children]
    ticks = sum(int(field[11]) + int(field[12]) for field in fields)
    return ticks / os.sysconf("SC_CLK_TCK")


async def measure(ports: tuple[int, int], key: str, master: int) -> None:
    await load(ports[1], key, 8, 1.0)
    direct, through = await in_turns(ports, lambda port: load(port, key, 1, 1.5))
    a, b = middle(direct.answers) * 1e3, middle(through.answers) * 1e3
    print(f"median at 1 connection      direct {a:8.2f} ms    gateway {b:8.2f} ms    added {b - a:.2f} ms")
    _count(direct, through)
    before = busy_seconds(master)
    direct, through = await in_turns(ports, lambda port: load(port, key, 32, 2.0))
    busy = (busy_seconds(master) - before) / len(through.answers) * 1e3
    a, b = direct.per_second, through.per_second
    print(f"requests/s at 32            direct {a:8.0f}       gateway {b:8.0f}       ratio {b / a:.3f}")
    print(f"processor time a request                           gateway {busy:8.2f} ms")
    _count(direct, through)
    before = busy_seconds(master)
    direct, through = await in_turns(ports, lambda port: load(port, key, 50, 1.5, stream=True))
    for what, pick, part in (
        ("first event, 50 streams", middle, "firsts"),
        ("gap median, 50 streams ", middle, "gaps"),
        ("gap p99, 50 streams    ", late, "gaps"),
    ):
        a, b = pick(getattr(direct, part)) * 1e3, pick(getattr(through, part)) * 1e3
        print(f"{what}     direct {a:8.2f} ms    gateway {b:8.2f} ms    added {b - a:.2f} ms")
    a, b = (len(took.gaps) + len(took.firsts) for took in (direct, through))
    busy = (busy_seconds(master) - before) / b * 1e6
    print(f"events, 50 streams          direct {a:8.0f}       gateway {b:8.0f}       ratio {b / a:.3f}")
    print(f"processor time an event                            gateway {busy:8.1f} us")
    _count(direct, through)


def _count(direct: Took, through: Took) -> None:
    if direct.failed or through.failed:
        print(f"  failed: direct {direct.failed}, gateway {through.failed}")


def main() -> int:
    engine, gateway = services.free_port(), services.free_port()
    os.sched_setaffinity(0, {CORES[0]})
    with tempfile.TemporaryDirectory() as scratch:
        env, key = prepare(Path(scratch), engine)
        serve = ["manage.py", "serve", "gateway", "--bind", f"127.0.0.1:{gateway}", "--workers", "1"]
        with process(0, "-m", "tools.bench.mock", str(engine)), process(1, *serve, **env) as master:
            wait_until_up(gateway)
            print(f"load before: {os.getloadavg()[0]:.1f}; one process of the gateway on one core")
            asyncio.run(measure((engine, gateway), key, master))
    return 0


if __name__ == "__main__":
    sys.exit(main())
