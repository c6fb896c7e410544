"""A Docker Engine of one's own, in a network of its own, with a GPU hook that does as it is told."""

import os
import shutil
import subprocess
import tempfile
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.fakes.images import _archive, _binary

SYSTEM = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
HOOK = "nvidia-container-runtime-hook"
STAYS = "cortex-test/stays:1"


class OwnEngine:
    """`url` is its address; `hook` says what its GPU hook does from now on, as a shell script; None: it is gone."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.url = f"unix://{folder}/docker.sock"

    def hook(self, script: str | None) -> None:
        path = self.folder / "bin" / HOOK
        path.parent.mkdir(exist_ok=True)
        if script is None:
            path.unlink()
            return
        path.write_text(f"#!/bin/sh\n{script}\n")
        path.chmod(0o755)

    def docker(self, *words: str, given: bytes | None = None) -> str:
        command = ["docker", "-H", self.url, *words]
        return subprocess.run(command, input=given, capture_output=True, check=True).stdout.decode()

    def add_image(self) -> None:
        """One whose container sleeps, whatever its arguments."""
        stay = 'ENTRYPOINT ["/bin/sh", "-c", "exec sleep 600", "x"]'
        self.docker("import", "-c", stay, "-", STAYS, given=_archive(_binary(self.folder)))


@contextmanager
def own_engine() -> Iterator[OwnEngine]:
    """Raises FileNotFoundError or subprocess.CalledProcessError where it cannot be."""
    folder, space = Path(tempfile.mkdtemp(prefix="cortex-engine-")), f"cortex-{uuid.uuid4().hex[:8]}"
    engine = OwnEngine(folder)
    engine.hook("exit 0")
    subprocess.run(["ip", "netns", "add", space], check=True, capture_output=True)
    where = [f"--data-root={folder}/root", f"--exec-root={folder}/exec", f"--pidfile={folder}/pid", "-H", engine.url]
    command = ["nsenter", f"--net=/run/netns/{space}", "dockerd", *where, "--bridge=none", "--iptables=false"]
    path = f"{folder}/bin:{SYSTEM}"
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen(command, env=os.environ | {"PATH": path}, stdout=log, stderr=log)
    try:
        _wait(engine, process)
        yield engine
    finally:
        for container in engine.docker("ps", "-aq").split():
            engine.docker("rm", "-f", container)
        process.terminate()
        process.wait(30)
        subprocess.run(["ip", "netns", "del", space], check=True, capture_output=True)
        shutil.rmtree(folder, ignore_errors=True)


def _wait(engine: OwnEngine, process: "subprocess.Popen[bytes]") -> None:
    until = time.monotonic() + 60
    while time.monotonic() < until and process.poll() is None:
        try:
            engine.docker("version")
        except subprocess.CalledProcessError:
            time.sleep(0.2)
        else:
            return
    raise AssertionError((engine.folder / "log").read_text()[-2000:])
