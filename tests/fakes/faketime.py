"""A library of Debian's that tells a process another time of day: fetched once, nothing is installed."""

import subprocess
import tempfile
from functools import cache
from pathlib import Path

from tests.plugin import SCRATCH


def environment(offset: str) -> dict[str, str]:
    """For a process that is so far off, as in `+2h`; what it waits for takes as long as ever."""
    return {"LD_PRELOAD": str(library()), "FAKETIME": offset, "FAKETIME_DONT_FAKE_MONOTONIC": "1"}


@cache
def library() -> Path:
    """The path for LD_PRELOAD. Raises subprocess.CalledProcessError where the package cannot be had."""
    folder = Path(tempfile.mkdtemp(prefix="faketime-", dir=SCRATCH))
    folder.chmod(0o755)
    run = {"cwd": folder, "check": True, "capture_output": True}
    subprocess.run(["apt-get", "download", "libfaketime"], **run)  # type: ignore[call-overload]
    (package,) = folder.glob("libfaketime*.deb")
    subprocess.run(["dpkg", "-x", str(package), str(folder)], **run)  # type: ignore[call-overload]
    return next(folder.rglob("libfaketime.so.1"))
