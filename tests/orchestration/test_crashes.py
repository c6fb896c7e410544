"""Whatever a process is doing when it is killed, the next one ends with what people asked for."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from django.db import connection

from tests.orchestration.conftest import ROOT

EVERY_TIME = ["start", "stop", "delete"]
SLOW = ["start with a pull", "start that is refused", "crash", "restart", "edit"]


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize("scenario", [*EVERY_TIME, *(pytest.param(name, marks=pytest.mark.slow) for name in SLOW)])
def test_killed_before_or_after_any_effect_it_converges(
    scenario: str, made: Path, models_folder: Path, tmp_path: Path
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
    assert len(results) > 10
    assert [result for result in results if not result["converged"] or not result["died"]] == []
