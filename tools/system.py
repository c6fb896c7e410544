"""The whole of Cortex on one machine: its services, its processes, and the words up and down."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

from cortex.cli import login
from tools import supervisor, turnstile
from tools.phase import PhaseFailed
from tools.running import STATE, Running, find

STOP_SECONDS = 15.0
DEMO_KEY = STATE / "demo-key"  # an operator's, kept by ./dev demo


def up(*, pretend: bool, web: int, gateway: int) -> int:
    """Run everything until Ctrl-C; a second one joins the first."""
    if running := find():
        return join(running)
    return supervisor.run(STATE, announce, pretend=pretend, web=web, gateway=gateway)


def join(running: Running) -> int:
    """Show what the first `up` shows; leaving does not end it."""
    print(f"Cortex already runs here (process {running.pid}); this joins it. Ctrl-C leaves it running.", flush=True)
    announce(running)
    log = STATE / "log" / "up.log"
    return subprocess.run(["tail", "-n", "0", "-F", str(log)], check=False, stderr=subprocess.DEVNULL).returncode


def announce(running: Running) -> None:
    link = read_manage(running, "setup_link").strip()
    pretence = "  Pretend mode: containers and GPUs are imaginary.\n" if running.pretend else ""
    print(
        f"\n{pretence}  UI        {link}\n  REST      {running.web}/api/v1/  (to try: {running.web}/api/v1/docs)\n"
        f"  models    {running.gateway}/v1\n  logs      {STATE}/log/\n",
        flush=True,
    )


def start_in_background(*, web: int, gateway: int) -> Running:
    """What demo does: an `up` of its own session, unless one runs."""
    if running := find():
        return running
    log = STATE / "log" / "up.log"
    log.parent.mkdir(parents=True, exist_ok=True)
    with log.open("ab") as sink:
        child = subprocess.Popen(
            [sys.executable, "-m", "tools", "up", "--web", str(web), "--gateway", str(gateway)],
            stdin=subprocess.DEVNULL,
            stdout=sink,
            stderr=sink,
            start_new_session=True,
        )
    while not (running := find()):
        if child.poll() is not None:
            tail = "\n    ".join(log.read_text(errors="replace").splitlines()[-15:])
            raise PhaseFailed(f"Cortex did not come up:\n    {tail}\n  Its log is {log}.")
        time.sleep(0.1)
    return running


def down(*, models: bool) -> int:
    """End what `up` started, or is just starting; all of it is gone when this says so."""
    pid = turnstile.holder(STATE)
    if pid is None:
        print("Cortex does not run here.")
        return 0
    if models:
        manage("stop_models")
    os.kill(pid, signal.SIGTERM)
    until = time.monotonic() + STOP_SECONDS
    while (left := turnstile.holder(STATE)) == pid and time.monotonic() < until:
        time.sleep(0.1)
    if left == pid:
        print(f"Process {pid} has not ended within {STOP_SECONDS:.0f} s; see {STATE}/log/up.log.")
        return 1
    print("Cortex is down." + ("" if models else " Models that ran go on running."))
    return 0


def manage(*words: str) -> int:
    """manage.py with the database of what runs here."""
    running = _need()
    return subprocess.run([sys.executable, "manage.py", *words], env=_environment(running), check=False).returncode


def read_manage(running: Running, *words: str) -> str:
    command = [sys.executable, "manage.py", *words]
    done = subprocess.run(command, env=_environment(running), check=False, capture_output=True, text=True)
    if done.returncode:
        tail = "\n    ".join(done.stderr.splitlines()[-5:])
        raise PhaseFailed(f"manage.py {words[0]} ended with status {done.returncode}:\n    {tail}")
    return done.stdout


def cli(words: list[str]) -> int:
    """The cortex command, told where things are unless the environment says otherwise, with the demo's key."""
    known = {}
    if running := find():
        known = {"CORTEX_URL": running.web, "CORTEX_GATEWAY": running.gateway}
        if DEMO_KEY.exists() and not login.path().exists():
            known["CORTEX_TOKEN"] = DEMO_KEY.read_text()
    environment = known | os.environ | {"PYTHONPATH": str(Path.cwd())}
    command = [sys.executable, "-m", "cortex.cli", *words]
    return subprocess.run(command, env=environment, cwd=asked_from(), check=False).returncode


def asked_from() -> Path:
    """Where people stood when they called ./dev, which itself goes to the project's folder."""
    return Path(os.environ.get("DEV_FROM", "."))


def _need() -> Running:
    running = find()
    if running is None:
        raise PhaseFailed("Cortex does not run here. Start it first: ./dev up")
    return running


def _environment(running: Running) -> dict[str, str]:
    return os.environ | running.environment
