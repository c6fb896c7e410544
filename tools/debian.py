"""Debian's packages, installed when their commands are missing."""

import shutil

from tools.docker_engine import apt_install, may_act
from tools.phase import Phase, PhaseFailed


def ensure_packages(it: Phase, packages: dict[str, str]) -> None:
    """`packages` maps a command to the package that brings it. Raises PhaseFailed where only a person can install."""
    missing = [package for command, package in packages.items() if not shutil.which(command)]
    if not missing:
        return
    if not may_act():
        raise PhaseFailed(f"Missing: {', '.join(missing)}. Run: sudo apt-get install {' '.join(missing)}")
    it.run("apt-get", "update", timeout=300)
    apt_install(it, *missing)
