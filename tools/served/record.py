"""Serves made models in the real vLLM and records what tokens it keeps: python -m tools.served.record [NAME ...]."""

import json
import os
import re
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from tools import made_tokenizer
from tools.made_model import GREETING
from tools.served import vllm
from tools.served.families import RUNS, SIZES, Served
from tools.services import free_port

RECORD = vllm.ROOT / "tests" / "truth" / "vllm_cpu.json"
FLAGS = vllm.ROOT / "tests" / "engines" / "data" / "vllm_flags.json"
START_SECONDS = 240
LISTENING = "Application startup complete"
KEPT = re.compile(r"CPU KV cache size: ([\d,]+) tokens, Maximum concurrency for [\d,]+ tokens per request: ([\d.]+)x")


@dataclass(frozen=True)
class Kept:
    """What a start log says: tokens of cache, and how many requests of full length at once."""

    tokens: int
    concurrency: float


def write_models(home: Path, folder: Path, wanted: Iterable[Served]) -> None:
    """The files of these models below ``folder``, each with a tokenizer."""
    configs = {each.made: each.config for each in wanted}
    command = [str(home / "bin" / "python"), str(Path(__file__).with_name("make.py")), str(folder)]
    subprocess.run(command, input=json.dumps(configs), text=True, check=True, capture_output=True)
    vocabulary = made_tokenizer.train(int(str(SIZES["vocab_size"])), GREETING)
    for name in configs:
        for file, text in made_tokenizer.hugging_face_files(vocabulary, 8192).items():
            (folder / name / file).write_text(text, encoding="utf-8")


@contextmanager
def serving(home: Path, folder: Path, wanted: Served, log: Path) -> Iterator[str]:
    """vLLM, listening; its log so far. Raises RuntimeError when it does not come up."""
    words = ["--host=127.0.0.1", f"--port={free_port()}", "--enforce-eager", "--dtype=bfloat16", "--max-num-seqs=4"]
    command = [str(home / "bin" / "vllm"), "serve", str(folder / wanted.made), *words, *wanted.words.split()]
    with log.open("wb") as out:
        process = subprocess.Popen(
            command, stdout=out, stderr=out, env=vllm.environment(wanted.space), start_new_session=True
        )
    try:
        yield _until_it_listens(process, log)
    finally:
        _end(process)


def _end(process: "subprocess.Popen[bytes]") -> None:
    """While it compiles it minds no TERM; then its workers go with it."""
    process.terminate()
    try:
        process.wait(30)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait(30)


def _until_it_listens(process: "subprocess.Popen[bytes]", log: Path) -> str:
    until = time.monotonic() + START_SECONDS
    while time.monotonic() < until and process.poll() is None:
        text = log.read_text(errors="replace")
        if LISTENING in text:
            return text
        time.sleep(0.5)
    raise RuntimeError(f"vLLM did not start. Its log ends:\n{log.read_text(errors='replace')[-3000:]}")


def read_log(text: str) -> Kept | None:
    """The figures of a start log, None where it has none."""
    found = KEPT.search(text)
    return Kept(int(found[1].replace(",", "")), float(found[2])) if found else None


def measure(home: Path, folder: Path, wanted: Served) -> Kept | str:
    """What the real server says it keeps, or why it does not serve this model."""
    with tempfile.TemporaryDirectory(prefix="cortex-vllm-") as scratch:
        log = Path(scratch) / "vllm.log"
        try:
            with serving(home, folder, wanted, log) as text:
                return read_log(text) or "its log names no cache"
        except RuntimeError:
            errors = re.findall(r"(?:ERROR .*?\] )?(\w*Error: .*)", log.read_text(errors="replace"))
            return errors[0][:300] if errors else "it did not start in time"


def main(names: list[str]) -> int:
    home = vllm.install()
    FLAGS.write_text(json.dumps({"vllm": vllm.VERSION, "choices": vllm.known_options(home)}, indent=0) + "\n")
    record: dict[str, Any] = json.loads(RECORD.read_text()) if RECORD.exists() else {"vllm": vllm.VERSION, "rows": {}}
    runs = [run for run in RUNS if not names or run.name in names]
    with tempfile.TemporaryDirectory(prefix="cortex-made-") as folder:
        write_models(home, Path(folder), runs)
        for run in runs:
            answer = measure(home, Path(folder), run)
            kept = asdict(answer) if isinstance(answer, Kept) else {"refused": answer}
            config = json.loads((Path(folder) / run.made / "config.json").read_text())
            record["rows"][run.name] = {"space_gib": run.space, "words": run.words, **kept, "config": config}
            RECORD.write_text(json.dumps(record, indent=1, sort_keys=True) + "\n")
            print(run.name, run.words, answer, flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
