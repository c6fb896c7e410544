"""Processes that end with the one that started them, however that one ends."""

import ctypes
import signal
import subprocess
from collections.abc import Mapping
from typing import IO

PR_SET_PDEATHSIG = 1
_libc = ctypes.CDLL(None)


def start(
    command: list[str], *, output: IO[bytes] | None = None, env: Mapping[str, str] | None = None
) -> "subprocess.Popen[bytes]":
    """Start a command in a session of its own; the kernel sends it TERM when this thread is no more."""
    return subprocess.Popen(
        command,
        env=env,
        stdin=subprocess.DEVNULL,
        stdout=output,
        stderr=output,
        start_new_session=True,
        preexec_fn=_tie,  # it calls one function of the kernel, loaded before the fork
    )


def _tie() -> None:
    _libc.prctl(PR_SET_PDEATHSIG, signal.SIGTERM)
