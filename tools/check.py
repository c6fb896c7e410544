"""./dev check and ./dev test: what every change must pass."""

import os
import subprocess
import sys
import tempfile

from tools import compose_plugin, docker_engine, engine_image, faults, stand_ins
from tools.debian import ensure_packages
from tools.phase import phase

PYTHON = sys.executable
CHECKS = {
    "requirements": ["-m", "pip", "check"],
    "ruff": ["-m", "ruff", "check", "."],
    "format": ["-m", "ruff", "format", "--check", "."],
    "mypy": ["-m", "mypy", "cortex", "engines", "tools", "tests", "manage.py"],
    "migrations": ["-W", "ignore", "manage.py", "makemigrations", "--check", "--dry-run"],
    "floors": ["-m", "pytest", "-q", "tests/test_floors.py"],
    "openapi": ["-m", "pytest", "-q", "tests/api/test_openapi.py"],
    "vendored": ["-m", "tools.vendor", "--check"],
}


def check() -> int:
    """Every check, all of them even when one fails; the exit status says whether all passed."""
    failed = []
    with tempfile.TemporaryDirectory() as state:
        environment = os.environ | {"CORTEX_STATE": state}
        for name, words in CHECKS.items():
            print(f"== {name}", flush=True)
            if subprocess.run([PYTHON, *words], env=environment, check=False).returncode:
                failed.append(name)
    print(f"failed: {', '.join(failed)}" if failed else "all checks pass", flush=True)
    return 1 if failed else 0


def test(words: list[str], *, unit: bool, slow: bool, all_faults: bool) -> int:
    """Run the tests; installs first what they need of this machine."""
    if unit:
        marks = "not postgres and not redis and not docker and not browser and not slow"
        return pytest("-m", marks, *words)
    prepare()
    if all_faults:
        return faults.run(words)
    chosen = [] if slow else ["-m", "not slow"]
    return pytest(*chosen, "-n", "2", "--dist", "loadfile", "--cov", "--cov-report=term:skip-covered", *words)


def prepare() -> None:
    """Docker Engine, compose, a browser, the images: what is missing is installed, pulled or built."""
    docker_engine.ensure(gpu_stand_in=True)
    compose_plugin.ensure()
    with phase("Browser") as it:
        ensure_packages(it, {"chromium": "chromium"})
    engine_image.ensure_llamacpp()
    stand_ins.ensure()


def pytest(*words: str) -> int:
    return subprocess.run([PYTHON, "-m", "pytest", *words], check=False).returncode


def module(name: str, *words: str) -> int:
    return subprocess.run([PYTHON, "-m", name, *words], check=False).returncode
