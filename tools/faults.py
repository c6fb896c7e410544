"""./dev test --faults: every fault for real, and docs/faults.md from what was seen."""

import json
import os
import re
import subprocess
import sys
import tempfile
from collections import defaultdict
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from tests.faults.table import ROWS, Fault

PAGE = Path("docs/faults.md")
RESULTS = Path("var/faults.jsonl")
SCRATCH = re.compile(rf"(?:unix://)?{re.escape(tempfile.gettempdir())}/[^\s'\"]+")
FAILED, SKIPPED = "failed", "skipped"

Result = dict[str, Any]


def run(words: list[str]) -> int:
    """Run the tests of all faults and write the page from what they saw.

    With further words for pytest only some run, and the others' rows stay as their latest run left them.
    """
    RESULTS.parent.mkdir(exist_ok=True)
    fresh = RESULTS.with_suffix(".new")
    fresh.unlink(missing_ok=True)
    command = ["-m", "pytest", "-m", "fault", "--faults", "--fault-results", str(fresh), *words]
    status = subprocess.run([sys.executable, *command], check=False).returncode
    if fresh.exists():  # else pytest did not begin, and has said why
        results = latest(read(RESULTS) if words else [], read(fresh))
        RESULTS.write_text("".join(json.dumps(result) + "\n" for result in results))
        PAGE.write_text(page(results))
        print(f"{PAGE} is written.")
    return status


def read(path: Path) -> list[Result]:
    return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


def latest(before: list[Result], now: list[Result]) -> list[Result]:
    """What each test saw when it ran last."""
    again = {result["test"] for result in now}
    return [result for result in before if result["test"] not in again] + now


def page(results: Iterable[Result]) -> str:
    """The whole table in Markdown; a fault that failed is shown as failed."""
    by_fault: dict[int, list[Result]] = defaultdict(list)
    for result in results:
        for number in result["faults"]:
            by_fault[number].append(result)
    rows = "".join(_row(fault, by_fault[fault.number]) for fault in ROWS)
    return f"{_head()}{rows}"


def _head() -> str:
    engine = subprocess.run(
        ["docker", "version", "--format", "{{.Server.Version}}"], capture_output=True, text=True, check=False
    ).stdout.strip()
    return (
        "# Faults\n"
        f"Written by `./dev test --faults` on a machine with {os.cpu_count()} cores and Docker Engine {engine}.\n"
        "*Where*: on the imaginary host, whose clock is the test's, or on the Docker Engine of the machine. *Seconds*: "
        "from the fault to the end of all work, on that clock. *Calls*: those to the container engine that change "
        "something, meanwhile. `fsck` found nothing wrong after each, unless the row says so. Rows in bold run with "
        "every change (`./dev test`).\n\n"
        "| # | fault | expected | seen | where | seconds | calls |\n"
        "|---|---|---|---|---|---|---|\n"
    )


def _row(fault: Fault, results: list[Result]) -> str:
    number = f"**{fault.number}**" if fault.every_change else str(fault.number)
    where = ", ".join(sorted({"Docker" if result["docker"] else "imaginary" for result in results}))
    seconds = max((result["seconds"] for result in results if result.get("seconds") is not None), default=None)
    calls = [result["calls"] for result in results if result.get("calls") is not None]
    cells = [number, fault.title, fault.expected, _seen(fault, results), where]
    cells += ["" if seconds is None else f"{seconds:.1f}", str(sum(calls)) if calls else ""]
    return f"| {' | '.join(_plain(cell) for cell in cells)} |\n"


def _seen(fault: Fault, results: list[Result]) -> str:
    if fault.impossible:
        return f"Not produced here: {fault.impossible}"
    if not results:
        return "**not run**"
    failed = [f"**failed**: {_name(result)}: {result['why']}" for result in results if result["outcome"] == FAILED]
    skipped = [f"Not produced here: {result['why']}" for result in results if result["outcome"] == SKIPPED]
    wrong = [f"**fsck**: {violation}" for result in results for violation in result.get("violations") or ()]
    passed = [result for result in results if result["outcome"] == "passed"]
    seen = [sentence for result in passed for sentence in result.get("seen") or ()]
    return " ".join(dict.fromkeys([*failed, *wrong, *seen, *skipped]))


def _name(result: Result) -> str:
    return str(result["test"]).rpartition("::")[2].removeprefix("test_").replace("_", " ")


def _plain(cell: str) -> str:
    """Nothing of an engine's words may break the table, and no path of this machine is told."""
    told = SCRATCH.sub("…", cell).replace("|", "\\|").replace("<", "&lt;")
    return " ".join(told.split())
