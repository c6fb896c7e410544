"""A library of Debian's that tells a process another time: fetched once, nothing is installed."""

import subprocess
import tempfile
from functools import cache
from pathlib import Path


@cache
def library() -> Path:
    """The path for LD_PRELOAD. Raises subprocess.CalledProcessError where the package cannot be had."""
    folder = Path(tempfile.mkdtemp(prefix="cortex-faketime-"))
    folder.chmod(0o755)
    run = {"cwd": folder, "check": True, "capture_output": True}
    subprocess.run(["apt-get", "download", "libfaketime"], **run)  # type: ignore[call-overload]
    (package,) = folder.glob("libfaketime*.deb")
    subprocess.run(["dpkg", "-x", str(package), str(folder)], **run)  # type: ignore[call-overload]
    return next(folder.rglob("libfaketime.so.1"))
