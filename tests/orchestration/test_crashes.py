"""Whatever a process is doing when it is killed, the next one ends with what people asked for."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from django.db import connection

from tests.faults.record import Record
from tests.orchestration.conftest import ROOT

STARTING, ENDING, SLOW = pytest.mark.fault(1), pytest.mark.fault(2), pytest.mark.slow
SCENARIOS = [
    pytest.param("start", marks=STARTING),
    pytest.param("start with a pull", marks=[STARTING, SLOW]),
    pytest.param("start that is refused", marks=[STARTING, SLOW]),
    pytest.param("crash", marks=[STARTING, SLOW]),
    pytest.param("stop", marks=ENDING),
    pytest.param("delete", marks=ENDING),
    pytest.param("drain", marks=[ENDING, SLOW]),
    pytest.param("undrain", marks=[ENDING, SLOW]),
    pytest.param("restart", marks=[ENDING, SLOW]),
    pytest.param("edit", marks=[ENDING, SLOW]),
]


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize("scenario", SCENARIOS)
def test_killed_before_or_after_any_effect_it_converges(
    scenario: str, made: Path, models_folder: Path, tmp_path: Path, record: Record
) -> None:
    (models_folder / "tiny.gguf").write_bytes(made.read_bytes())
    name = connection.settings_dict
    environment = os.environ | {
        "DATABASE_URL": f"postgresql://{name['USER']}@/{name['NAME']}?host={name['HOST']}",
        "PGOPTIONS": "-c synchronous_commit=off",  # what is killed is a client, not the server
    }
    command = [sys.executable, "-m", "tests.orchestration.crashes", scenario, str(tmp_path / "world.json")]
    run = subprocess.run(command, env=environment, cwd=ROOT, stdout=subprocess.PIPE, text=True, check=False)
    results = [json.loads(line) for line in run.stdout.splitlines()]
    assert run.returncode == 0
    assert len(results) > 10, run.stdout
    assert [result for result in results if not result["converged"] or not result["died"]] == []
    record.checked([])  # each of them ran fsck
    record.saw(f"{scenario}: killed at {len(results) - 1} points, and each time the next process converged.")
    record.took(max(result["seconds"] for result in results), max(result["calls"] for result in results))
