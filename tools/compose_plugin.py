"""A Docker Compose that understands compose.yaml: the one installed, or Debian 13's beside it."""

import re
import shutil
import subprocess
import tempfile
from pathlib import Path

from tools.phase import Phase, PhaseFailed, phase

OLDEST = (2, 20)
FETCHED = Path("var/bin/docker-compose")
SOURCES = (Path("/etc/apt/sources.list.d/debian.sources"), Path("/etc/apt/sources.list"))


def ensure() -> tuple[str, ...]:
    """The words that start Compose: ``docker compose``, or a binary of our own under var/.

    Raises PhaseFailed when there is none and this machine is not a Debian that could fetch it.
    """
    for command in (("docker", "compose"), (str(FETCHED.absolute()),)):
        if version(command) >= OLDEST:
            return command
    _fetch()
    return (str(FETCHED.absolute()),)


def version(command: tuple[str, ...]) -> tuple[int, int]:
    """Major and minor version of a Compose; (0, 0) when there is none."""
    try:
        said = subprocess.run([*command, "version", "--short"], capture_output=True, text=True, check=False, timeout=20)
    except FileNotFoundError:
        return (0, 0)
    match = re.match(r"v?(\d+)\.(\d+)", said.stdout)
    return (int(match[1]), int(match[2])) if match and not said.returncode else (0, 0)


def newer_sources(text: str) -> str:
    """A Debian machine's own package sources, pointed at Debian 13: keeps its mirror."""
    return re.sub(r"\b(buster|bullseye|bookworm)\b", "trixie", text)


def _fetch() -> None:
    sources = next((path for path in SOURCES if path.exists() and "debian" in path.read_text()), None)
    if not sources or not shutil.which("apt-get"):
        raise PhaseFailed(
            f"Docker Compose {'.'.join(map(str, OLDEST))} or newer is missing. Install Docker's own package "
            "docker-compose-plugin, then run this again."
        )
    with phase("Docker Compose of Debian 13") as it, tempfile.TemporaryDirectory() as folder:
        _fetch_from(sources, Path(folder), it)


def _fetch_from(sources: Path, folder: Path, it: Phase) -> None:
    lists = folder / "lists"
    (lists / "partial").mkdir(parents=True)
    newer = folder / f"newer{sources.suffix}"
    newer.write_text(newer_sources(sources.read_text()))
    elsewhere = {
        "Dir::State::Lists": lists,
        "Dir::Etc::sourcelist": newer,
        "Dir::Etc::sourceparts": "/dev/null",
        # This machine's own index is left as it is; and root's folders are closed to apt's own user.
        "Dir::Cache::pkgcache": "",
        "Dir::Cache::srcpkgcache": "",
        "APT::Sandbox::User": "root",
    }
    options = [word for name, value in elsewhere.items() for word in ("-o", f"{name}={value}")]
    it.run("apt-get", *options, "update", timeout=300)
    it.run("apt-get", *options, "download", "docker-compose", cwd=folder, timeout=300)
    it.run("dpkg", "-x", str(next(folder.glob("docker-compose_*.deb"))), str(folder / "tree"))
    FETCHED.parent.mkdir(parents=True, exist_ok=True)
    shutil.copy(folder / "tree/usr/libexec/docker/cli-plugins/docker-compose", FETCHED)


if __name__ == "__main__":
    print(" ".join(ensure()))
