"""Cortex's processes for a measurement: begun by role, killed by role, and what they cost."""

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

TICKS = os.sysconf("SC_CLK_TCK")


class Processes:
    """Each role in a session of its own, so that all its descendants are found."""

    def __init__(self, log: Path) -> None:
        self._log = log.open("wb")
        self._leaders: dict[str, subprocess.Popen[bytes]] = {}

    def begin(self, *roles: str) -> None:
        for role in roles:
            command = [sys.executable, "-W", "ignore", "manage.py", "serve", role]
            self._leaders[role] = subprocess.Popen(command, stdout=self._log, stderr=self._log, start_new_session=True)

    def kill(self, *roles: str) -> None:
        """By SIGKILL, each with its descendants; all of them when none is named."""
        for role in roles or tuple(self._leaders):
            leader = self._leaders.pop(role)
            os.killpg(leader.pid, signal.SIGKILL)
            leader.wait()

    def busy(self, role: str) -> float:
        """Processor seconds up to now, of those that ended meanwhile too."""
        return sum(seconds(pid) for pid in self._pids(role))

    def memory(self, role: str) -> int:
        """Bytes, as the proportional set size: what processes share is counted once, divided among them."""
        return sum(proportional(pid) for pid in self._pids(role))

    def _pids(self, role: str) -> Iterator[int]:
        group = self._leaders[role].pid
        for entry in Path("/proc").iterdir():
            if entry.name.isdigit():
                with gone_is_fine():
                    if os.getpgid(int(entry.name)) == group:
                        yield int(entry.name)


def seconds(pid: int) -> float:
    """Processor seconds of a process and of its children that ended."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return sum(int(field) for field in fields[11:15]) / TICKS


def proportional(pid: int) -> int:
    lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("Pss:"))


@contextmanager
def gone_is_fine() -> Iterator[None]:
    """A process may end while we look."""
    try:
        yield
    except (ProcessLookupError, FileNotFoundError):
        return
