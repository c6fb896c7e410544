"""What the browser loads of others: fetched by `npm pack`, verified, committed below static/vendor."""

import argparse
import base64
import hashlib
import subprocess
import sys
import tarfile
import tempfile
import tomllib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

ROOT = Path(__file__).resolve().parent.parent
LIST = ROOT / "vendor.toml"
FOLDER = ROOT / "static" / "vendor"


class NotAsListed(Exception):
    """What was fetched, or what is committed, is not what vendor.toml says."""


@dataclass(frozen=True)
class Package:
    """One package: `integrity` is the archive's sha512 as npm writes it, `files` the sha256 of each file we keep."""

    name: str
    version: str
    integrity: str
    files: dict[str, str]

    def place(self, file: str) -> Path:
        return FOLDER / f"{self.name}-{self.version}" / PurePosixPath(file).name


def listed() -> list[Package]:
    """What vendor.toml lists."""
    return [Package(**entry) for entry in tomllib.loads(LIST.read_text()).values()]


def problems(packages: list[Package]) -> Iterator[str]:
    """What is wrong with the committed files, offline."""
    expected = {package.place(file): digest for package in packages for file, digest in package.files.items()}
    for path, digest in expected.items():
        if not path.exists():
            yield f"{path.relative_to(ROOT)} is missing: run tools/vendor.py."
        elif sha256(path.read_bytes()) != digest:
            yield f"{path.relative_to(ROOT)} is not what vendor.toml lists: run tools/vendor.py, or correct its sha256."
    for path in FOLDER.rglob("*"):
        if path.is_file() and path not in expected:
            yield f"{path.relative_to(ROOT)} is in no list: remove it, or list it in vendor.toml."


def sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def fetch(package: Package) -> None:
    """Bring a package's files. Raises NotAsListed and writes nothing then."""
    with tempfile.TemporaryDirectory() as scratch:
        command = ["npm", "pack", "--silent", "--ignore-scripts", f"{package.name}@{package.version}"]
        subprocess.run(command, cwd=scratch, check=True, stdout=subprocess.DEVNULL)
        (archive,) = Path(scratch).glob("*.tgz")
        seen = "sha512-" + base64.b64encode(hashlib.sha512(archive.read_bytes()).digest()).decode()
        if seen != package.integrity:
            raise NotAsListed(f"{package.name} {package.version} has the integrity {seen}, not {package.integrity}.")
        contents = dict(_unpacked(archive, package))
    for path, content in contents.items():
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)


def _unpacked(archive: Path, package: Package) -> Iterator[tuple[Path, bytes]]:
    with tarfile.open(archive) as tar:
        for file, digest in package.files.items():
            member = tar.extractfile(f"package/{file}")
            if member is None:
                raise NotAsListed(f"{package.name} {package.version} holds no {file}.")
            content = member.read()
            if sha256(content) != digest:
                raise NotAsListed(f"{file} has the sha256 {sha256(content)}, not {digest}.")
            yield package.place(file), content


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--check", action="store_true", help="only verify the committed files, offline")
    packages = listed()
    if not parser.parse_args().check:
        for package in packages:
            fetch(package)
    wrong = list(problems(packages))
    print("\n".join(wrong) or f"{len(packages)} packages are as listed.", file=sys.stderr if wrong else sys.stdout)
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
