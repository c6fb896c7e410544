"""A tiny image made without a registry: one static busybox. It has no command of its own; specs give one."""

import hashlib
import io
import shutil
import subprocess
import tarfile
import tempfile
from functools import cache
from pathlib import Path

from tools import stand_ins

BUSYBOX = "cortex-test/busybox:1"
APPLETS = ("sh", "sleep", "httpd", "echo", "seq", "cat", "mkdir", "kill", "tail", "dd", "true", "id", "grep", "ls")


@cache
def busybox() -> str:
    """The name of the image, built at the first call and kept."""
    if subprocess.run(["docker", "image", "inspect", BUSYBOX], capture_output=True).returncode:
        with tempfile.TemporaryDirectory() as folder:
            archive = _archive(_binary(Path(folder)))
        subprocess.run(["docker", "import", "-", BUSYBOX], input=archive, capture_output=True, check=True)
    return BUSYBOX


def _binary(folder: Path) -> Path:
    """A statically linked busybox: the host's, or the one of Debian's package."""
    found = shutil.which("busybox")
    if found and b"interp" not in Path(found).read_bytes()[:4096]:
        return Path(found)
    run = {"cwd": folder, "check": True, "capture_output": True}
    subprocess.run(["apt-get", "download", "busybox-static"], **run)  # type: ignore[call-overload]
    (package,) = folder.glob("busybox-static*.deb")
    subprocess.run(["dpkg", "-x", str(package), str(folder)], **run)  # type: ignore[call-overload]
    return next(path for path in (folder / "bin/busybox", folder / "usr/bin/busybox") if path.exists())


def _archive(binary: Path) -> bytes:
    content = io.BytesIO()
    with tarfile.open(fileobj=content, mode="w") as archive:
        for name in ("bin", "etc", "tmp", "www"):
            folder = tarfile.TarInfo(name)
            folder.type, folder.mode = tarfile.DIRTYPE, 0o1777 if name == "tmp" else 0o755
            archive.addfile(folder)
        program = tarfile.TarInfo("bin/busybox")
        program.size, program.mode = binary.stat().st_size, 0o755
        with binary.open("rb") as file:
            archive.addfile(program, file)
        for name in APPLETS:
            link = tarfile.TarInfo(f"bin/{name}")
            link.type, link.linkname = tarfile.SYMTYPE, "busybox"
            archive.addfile(link)
    return content.getvalue()


@cache
def bad_engine() -> str:
    """An image whose entrypoint is bad_engine.py; its name changes with the script."""
    script = Path(__file__).with_name("bad_engine.py")
    image = f"cortex-test/bad-engine:{hashlib.sha256(script.read_bytes()).hexdigest()[:12]}"
    if subprocess.run(["docker", "image", "inspect", image], capture_output=True).returncode:
        base = stand_ins.ensure_one("CORTEX_PYTHON_IMAGE")
        recipe = f'FROM {base}\nCOPY bad_engine.py /engine.py\nENTRYPOINT ["python3", "/engine.py"]\n'
        command = ["docker", "build", "-q", "-t", image, "-f", "-", str(script.parent)]
        subprocess.run(command, input=recipe.encode(), capture_output=True, check=True)
    return image
