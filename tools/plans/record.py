"""Records llama.cpp's memory plans: python -m tools.plans.record BIN_FOLDER OUT.jsonl [--models FOLDER] [--seed N].

With a seed, models and options are drawn by chance, else every model is planned in the configurations of PLANS. With
--families the models are those compared last, of all families or of those named.
"""

import json
import re
import subprocess
import sys
import tempfile
import time
from argparse import ArgumentParser
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from tools.plans.dense_models import dense_models
from tools.plans.drawn import drawn
from tools.plans.encoder_models import encoder_models
from tools.plans.expert_models import expert_models
from tools.plans.family_models import family_models
from tools.plans.further_models import further_models
from tools.plans.hub_models import hub_models
from tools.plans.layouts import Model
from tools.plans.rare_models import rare_models
from tools.plans.recurrent_models import recurrent_models
from tools.plans.sparse import write_sparse
from tools.plans.sparse_models import sparse_models
from tools.plans.variant_models import variant_models

PORT, MOST_GPUS, TRIES = 50151, 4, 4
NO_TABLE = "its log has no table of memory"
ROW = re.compile(r"\|\s+- (?P<name>\S+).*?=\s+(?P<model>\d+) \+\s+(?P<context>\d+) \+\s+(?P<compute>\d+)\)? [+|]")
HOST = re.compile(r"\|\s+- (?P<name>\S+)\s+\|\s+\d+ =\s+(?P<model>\d+) \+\s+(?P<context>\d+) \+\s+(?P<compute>\d+)")
BUILD = re.compile(r"^version: (.+)$", re.MULTILINE)
PLANS: tuple[tuple[int, str], ...] = (
    (1, "-c 8192 -fa on -ngl 999"),
    (1, "-c 32768 -np 4 -fa on -ub 1024 -ctk q8_0 -ctv q8_0 -ngl 999"),
    (1, "-c 4096 -fa off -ngl 999"),
    (2, "-c 16384 -fa on -ngl 999 -ts 3,1"),
    (2, "-c 8192 -np 2 -fa off -ub 256 -ngl 999 -ts 1,2"),
    (1, "-c 8192 -fa on -ngl {half}"),
    (4, "-c 65536 -np 8 -fa on -ub 2048 -b 2048 -ngl 999 -ts 4,3,2,1"),
    (3, "-c 12288 -fa auto -ctk q4_0 -ctv f16 -ngl {most} -ts 1,1,2"),
    (1, "-c 131072 -fa on -ub 128 -nkvo -ngl 999"),
)


def models() -> list[Model]:
    return dense_models() + sparse_models()


def families(names: Sequence[str] = ()) -> list[Model]:
    """Models of further families: all of them, or those named by family or by name."""
    found = family_models() + encoder_models() + recurrent_models() + hub_models() + expert_models() + rare_models()
    found += variant_models()
    return [model for model in found if not names or {model.family, model.name} & set(names)]


def chosen(models: Iterable[Model]) -> Iterator[tuple[Model, int, list[str]]]:
    """Every model in every configuration of PLANS, with its number of GPUs."""
    for model in models:
        layers = model.number("block_count")
        for count, wish in PLANS:
            yield model, count, wish.format(half=layers // 2, most=layers - 3).split()


@contextmanager
def servers(folder: Path, count: int, port: int) -> Iterator[list[str]]:
    """Loopback processes that stand in for GPUs."""
    addresses = [f"127.0.0.1:{port + number}" for number in range(count)]
    running = [
        subprocess.Popen(
            [folder / "ggml-rpc-server", "-H", "127.0.0.1", "-p", address.split(":")[1]],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        for address in addresses
    ]
    time.sleep(1)
    try:
        yield addresses
    finally:
        for process in running:
            process.terminate()
            process.wait()


def plan(folder: Path, gguf: Path, args: list[str], devices: list[str]) -> dict[str, object] | str:
    """One row, or why llama.cpp made no plan. Its log may lose a line on a busy machine: then it is asked again."""
    answer: dict[str, object] | str = ""
    for _ in range(TRIES):
        answer = ask(folder, gguf, args, devices)
        if answer != NO_TABLE:
            break
    return answer


def ask(folder: Path, gguf: Path, args: list[str], devices: list[str]) -> dict[str, object] | str:
    command = [
        str(folder / "llama-fit-params"),
        "-m",
        str(gguf),
        *args,
        "--rpc",
        ",".join(devices),
        "-fitp",
        "on",
        "-lv",
        "4",
    ]
    run = subprocess.run(command, capture_output=True, text=True, check=False, timeout=300)
    text = run.stdout + run.stderr
    rows = [match.groupdict() for match in ROW.finditer(text) if match["name"].startswith("RPC")]
    hosts = [match.groupdict() for match in HOST.finditer(text)]
    if len(rows) != len(devices):
        errors = [line for line in text.splitlines() if " E " in line or "error" in line]
        return errors[0] if errors else NO_TABLE
    parts = ("model", "context", "compute")
    return {
        "gguf": gguf.name,
        "args": args,
        "devices": [{part: int(row[part]) for part in parts} for row in rows],
        "host": {part: sum(int(row[part]) for row in hosts) for part in parts},
    }


def build(folder: Path) -> str:
    run = subprocess.run([folder / "llama-fit-params", "--version"], capture_output=True, text=True, check=True)
    match = BUILD.search(run.stdout + run.stderr)
    return match[1] if match else "unknown"


def record(
    folder: Path, out: Path, kept: Path, plans: Iterable[tuple[Model, int, list[str]]], port: int = PORT
) -> None:
    """Writes one JSON line for each plan; models' files stay in ``kept`` and are written once."""
    version = build(folder)
    with servers(folder, MOST_GPUS, port) as devices, out.open("w") as file:
        for model, count, args in plans:
            gguf = kept / f"{model.name}.gguf"
            if not gguf.exists():
                write_sparse(gguf, model.family, model.header(), model.layout)
            row = plan(folder, gguf, args, devices[:count])
            if isinstance(row, str):
                print(f"{model.name}: {' '.join(args)}: {row}", file=sys.stderr)
            else:
                file.write(json.dumps(row | {"build": version}, separators=(",", ":")) + "\n")


def main() -> None:
    parser = ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path, help="where llama-fit-params and ggml-rpc-server lie")
    parser.add_argument("out", type=Path)
    parser.add_argument("--models", type=Path, help="where to keep the models' headers")
    parser.add_argument("--seed", type=int)
    parser.add_argument("--families", nargs="*", help="plan further models: all, or those of these names or families")
    parser.add_argument("--port", type=int, default=PORT, help="the first port of the processes that stand in for GPUs")
    asked = parser.parse_args()
    near, far = (models(), further_models()) if asked.families is None else (families(asked.families),) * 2
    plans = chosen(near) if asked.seed is None else drawn(asked.seed, near, far)
    with tempfile.TemporaryDirectory() as made:
        record(asked.folder, asked.out, asked.models or Path(made), plans, asked.port)


if __name__ == "__main__":
    main()
