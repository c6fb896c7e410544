"""Models from a terminal, against the real API."""

import json
import threading
from pathlib import Path
from typing import Any

import pytest
import yaml
from django.db import connection

from cortex.catalog.models import Desired, Model
from cortex.fleet.models import Replica
from cortex.fleet.states import Observed
from tests import scene
from tests.api import rows
from tests.cli.conftest import Run
from tests.wrong_inputs import TABLE, damage

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture
def file(tmp_path: Path, tiny: dict[str, Any]) -> Path:
    path = tmp_path / "models.yaml"
    path.write_text(yaml.safe_dump_all([tiny, [{**tiny, "name": "other", "replicas": 2}]]))
    return path


def test_apply_makes_models_what_the_file_says(cortex: Run, file: Path, tiny: dict[str, Any]) -> None:
    first = cortex("apply", "-f", str(file))
    assert (first.exit_code, first.stdout) == (0, "+ tiny\n+ other\n")
    assert cortex("apply", "-f", str(file)).stdout == "= tiny\n= other\n"
    file.write_text(json.dumps({"models": [{**tiny, "context": 512}]}))
    assert cortex("apply", "-f", str(file)).stdout == "~ tiny\n    context: null -> 512\n"
    assert Model.objects.get(name="tiny").context == 512
    assert Model.objects.count() == 2


def test_a_dry_run_changes_nothing_and_names_what_is_replaced(cortex: Run, tiny: dict[str, Any]) -> None:
    assert cortex("apply", "-f", "-", "--dry-run", input=json.dumps(tiny)).stdout == "+ tiny (dry run)\n"
    assert not Model.objects.exists()
    cortex("apply", "-f", "-", input=json.dumps({**tiny, "desired": "running"}))
    changed = cortex("apply", "-f", "-", "--dry-run", input=json.dumps({**tiny, "users": 2}))
    assert changed.stdout.startswith("~ tiny (containers are replaced, dry run)\n")
    assert Model.objects.get().users is None


def test_what_is_shown_can_be_applied_again(cortex: Run, tiny: dict[str, Any]) -> None:
    cortex("apply", "-f", "-", input=json.dumps({**tiny, "options": {"n_gpu_layers": 0}}))
    spec = yaml.safe_load(cortex("show", "tiny", "-o", "yaml").stdout)["spec"]
    assert cortex("apply", "-f", "-", input=yaml.safe_dump(spec)).stdout == "= tiny\n"


def test_where_a_model_may_run_is_said_by_flags_and_shown(cortex: Run, tiny: dict[str, Any]) -> None:
    words = ["--card", "GPU-1", "--card", "GPU-2", "--host", "atlas", "--label", "zone=cellar", "--spread"]
    assert cortex("define", "tiny", "--path", "tiny.gguf", *words).exit_code == 0
    wish = {"cards": ["GPU-1", "GPU-2"], "hosts": ["atlas"], "labels": {"zone": "cellar"}, "spread": True}
    assert Model.objects.get().placement == wish
    shown = cortex("show", "tiny").stdout
    assert "GPUs GPU-1, GPU-2; hosts atlas; hosts labelled zone=cellar; spread" in shown
    assert cortex("define", "other", "--path", "tiny.gguf", "--label", "zone").exit_code == 2
    assert "/placement/cards" in cortex("define", "other", "--path", "tiny.gguf", "--card", "one").stderr


def test_one_wrong_definition_keeps_all_from_being_written(cortex: Run, tiny: dict[str, Any]) -> None:
    result = cortex("apply", "-f", "-", input=json.dumps([tiny, {**tiny, "name": "bad", "engine": "nine"}]))
    assert result.exit_code == 5
    assert "nothing was changed" in result.stderr
    assert "There is no engine named 'nine'" in result.stderr
    assert not Model.objects.exists()


@pytest.mark.parametrize("mistake", TABLE)
def test_a_mistake_is_told_in_the_words_of_the_api(
    cortex: Run, tiny: dict[str, Any], models_folder: Path, mistake: str
) -> None:
    damage(models_folder)
    wrong, pointer, words = TABLE[mistake]
    result = cortex("apply", "-f", "-", input=json.dumps({**tiny, **wrong}))
    assert (result.exit_code, result.stdout) == (5, "")
    assert f"{pointer}: " in result.stderr
    assert words in result.stderr
    assert not Model.objects.exists()


def test_a_taken_name_is_refused(cortex: Run, tiny: dict[str, Any]) -> None:
    assert cortex("define", "tiny", "--path", "tiny.gguf", "--option", "n_gpu_layers=0").exit_code == 0
    assert Model.objects.get().options == {"n_gpu_layers": 0}
    again = cortex("define", "tiny", "--path", "tiny.gguf")
    assert again.exit_code == 5
    assert "A model named 'tiny' exists." in again.stderr


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("a: [1,", "line 1"),
        ("", "no definition"),
        ("- 3", "Item 1 has no name"),
        ("{name: a, engine: llamacpp}\n---\n{name: a}", "defined twice"),
    ],
)
def test_a_file_that_is_no_list_of_models_is_a_usage_error(run: Run, text: str, words: str) -> None:
    result = run("apply", "-f", "-", input=text)
    assert result.exit_code == 2
    assert words in result.stderr


def test_a_file_that_is_not_there_is_a_usage_error(run: Run) -> None:
    result = run("apply", "-f", "/nowhere.yaml")
    assert (result.exit_code, "No such file" in result.stderr) == (2, True)


def test_models_are_ordered_about(cortex: Run, tiny: dict[str, Any]) -> None:
    cortex("apply", "-f", "-", input=json.dumps(tiny))
    assert cortex("start", "tiny").exit_code == 0
    assert Model.objects.get().desired == Desired.RUNNING
    assert cortex("restart", "tiny").exit_code == 0
    assert Model.objects.get().fresh_turn == Model.objects.get().turn
    assert cortex("stop", "tiny", "--wait").exit_code == 0
    assert cortex("wait", "tiny").exit_code == 0


def test_start_waits_until_it_serves_and_tells_the_phases(cortex: Run, tiny: dict[str, Any]) -> None:
    cortex("apply", "-f", "-", input=json.dumps(tiny))

    def serve() -> None:
        replica = rows.replica(Model.objects.get(), Observed.READY, reason="It answers.")
        rows.attempt(replica)
        connection.close()

    loop = threading.Timer(1.0, serve)
    loop.start()
    result = cortex("start", "tiny", "--wait", "--timeout", "20")
    loop.join()
    assert (result.exit_code, result.stdout) == (0, "")
    assert "tiny: queued" in result.stderr
    assert "tiny: serving: It answers." in result.stderr


def test_a_wait_that_takes_too_long_has_its_own_exit_code(cortex: Run, tiny: dict[str, Any]) -> None:
    cortex("apply", "-f", "-", input=json.dumps(tiny))
    result = cortex("start", "tiny", "--wait", "--timeout", "0.5")
    assert result.exit_code == 4
    assert "was not there after 0.5 s" in result.stderr


def failing(model: Model) -> Replica:
    replica = rows.replica(model, Observed.ABSENT, failures=2, gave_up=True, reason="It exits at once.")
    rows.attempt(replica, remedy="Lower the context.", exit_code=1, ended_at=rows.AT, last_log="boom")
    return replica


def test_a_model_that_was_given_up_says_why_and_what_to_do(cortex: Run, tiny: dict[str, Any]) -> None:
    cortex("apply", "-f", "-", input=json.dumps({**tiny, "desired": "running"}))
    failing(Model.objects.get())
    result = cortex("wait", "tiny")
    assert result.exit_code == 1
    assert "It exits at once." in result.stderr
    assert "Lower the context." in result.stderr
    shown = cortex("show", "tiny").stdout
    assert "failing" in shown
    assert "Lower the context." in shown
    assert "boom" in cortex("logs", "tiny").stdout


def test_a_wait_for_an_image_that_never_arrives_ends_and_says_why(cortex: Run, tiny: dict[str, Any]) -> None:
    cortex("apply", "-f", "-", input=json.dumps(tiny))

    def fail() -> None:
        model = Model.objects.get()
        replica = rows.replica(model, Observed.FETCHING, failures=3, reason="Fetching image engine:1.")
        reason = "The image engine:1 did not arrive: no such host."
        rows.attempt(replica, ended_at=rows.AT, reason=reason, remedy="Load it by hand.")
        connection.close()

    loop = threading.Timer(1.0, fail)
    loop.start()
    result = cortex("start", "tiny", "--wait", "--timeout", "30")
    loop.join()
    assert result.exit_code == 1
    assert "tiny did not come up." in result.stderr
    assert "3 times in a row, and is tried again. The last time: The image engine:1 did not arrive" in result.stderr
    assert "Next: Load it by hand." in result.stderr


def test_lists_are_tables_for_people_and_data_for_programs(cortex: Run, tiny: dict[str, Any]) -> None:
    cortex("apply", "-f", "-", input=json.dumps({**tiny, "desired": "running"}))
    rows.replica(Model.objects.get(), Observed.READY, address="127.0.0.1:9")
    assert "tiny" in cortex("ls").stdout
    assert json.loads(cortex("ls", "-o", "json").stdout)[0]["spec"]["engine"] == "llamacpp"
    assert yaml.safe_load(cortex("ls", "-o", "yaml").stdout)[0]["name"] == "tiny"
    assert cortex("ls", "-o", "name").stdout == "tiny\n"
    assert cortex("ps", "-o", "name").stdout == "tiny/0\n"
    assert "127.0.0.1:9" in cortex("ps").stdout
    assert "\x1b" not in cortex("ls", NO_COLOR="1").stdout


def test_removing_asks_first(cortex: Run, tiny: dict[str, Any]) -> None:
    cortex("apply", "-f", "-", input=json.dumps(tiny))
    unasked = cortex("rm", "tiny")
    assert unasked.exit_code == 2
    assert "--yes" in unasked.stderr
    assert Model.objects.declared().exists()
    assert cortex("rm", "tiny", "--yes").exit_code == 0
    assert not Model.objects.declared().exists()


@pytest.mark.parametrize("command", ["show", "start", "stop", "restart", "logs", "wait"])
def test_a_model_that_is_not_there_has_its_own_exit_code(cortex: Run, command: str) -> None:
    result = cortex(command, "nobody")
    assert result.exit_code == 3
    assert "There is no model named 'nobody'." in result.stderr
    assert cortex("rm", "nobody", "--yes").exit_code == 3


def test_starts_are_listed_with_their_steps_and_the_first_failure(cortex: Run) -> None:
    scene.whole_fleet()
    listed = cortex("attempts", "qwen3-30b-a3b", "--replica", "1").stdout
    assert "1 #1" in listed
    assert "0 #1" not in listed
    assert "created +2.0s, loading +3.0s, weights loaded +33s, cache sized +36s, ready +41s, first answer +1m" in listed
    failed = cortex("attempts", "llama-3.3-70b").stdout.splitlines()
    assert ["(first failure)" in line for line in failed[1:]] == [False, False, True]
    assert "First failure  The GPU has too little memory" in cortex("show", "llama-3.3-70b").stdout
    assert '"first_log": "build' in cortex("attempts", "llama-3.3-70b", "-o", "json").stdout
