import json
import os
import subprocess
import sys
from pathlib import Path

from tools import turnstile
from tools.running import find

OTHER = """
import sys
from pathlib import Path
from tools import turnstile
with turnstile.held(Path(sys.argv[1])) as ours:
    print(ours)
"""


def test_one_process_holds_a_folder_and_is_known_by_its_id(tmp_path: Path) -> None:
    with turnstile.held(tmp_path) as first:
        assert first
        assert turnstile.holder(tmp_path) == os.getpid()
        command = [sys.executable, "-c", OTHER, str(tmp_path)]
        assert subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip() == "False"
    assert turnstile.holder(tmp_path) is None


def test_a_folder_that_nobody_ever_held_has_no_holder(tmp_path: Path) -> None:
    assert turnstile.holder(tmp_path / "nowhere") is None


def test_what_a_crash_left_behind_is_not_taken_for_a_cortex_that_runs(tmp_path: Path) -> None:
    left = {"pid": os.getpid(), "web": "", "gateway": "", "pretend": False, "environment": {}}
    (tmp_path / "up.json").write_text(json.dumps(left))
    (tmp_path / "up.lock").write_text(str(os.getpid()))  # this id is alive, and somebody else's
    assert find(tmp_path) is None
    with turnstile.held(tmp_path):
        assert find(tmp_path) is not None
