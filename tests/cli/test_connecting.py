"""The way to Cortex: addresses, keys, and words for when there is none."""

import json
import stat
from pathlib import Path

import pytest

from cortex.access.models import ApiKey, Person, Scope
from cortex.cli import login
from tests.api import rows
from tests.cli.conftest import Run
from tests.conftest import key_of


def test_help_documents_the_exit_codes(run: Run) -> None:
    shown = run("--help")
    assert shown.exit_code == 0
    assert "3 not found, 4 timeout, 5 refused" in " ".join(shown.stdout.split())


def test_an_address_where_nobody_listens_is_named_with_what_to_do(run: Run) -> None:
    result = run("--url", "http://127.0.0.1:1", "ls")
    assert (result.exit_code, result.stdout) == (1, "")
    assert "http://127.0.0.1:1" in result.stderr
    assert "./dev up" in result.stderr


@pytest.mark.parametrize("url", ["nonsense", "ftp://x", "http://[", "http://a b"])
def test_an_address_that_is_none_is_said_in_words(run: Run, url: str) -> None:
    result = run("--url", url, "ls")
    assert result.exit_code in (1, 2)
    assert result.stderr.startswith("Error: ")


def test_an_unknown_command_is_a_usage_error(run: Run) -> None:
    assert run("frobnicate").exit_code == 2


def test_a_key_that_is_not_good_says_how_to_get_one(cortex: Run) -> None:
    result = cortex("--token", "ctx_nope", "ls")
    assert result.exit_code == 5
    assert "cortex login" in result.stderr


def test_a_viewer_is_told_what_is_missing(cortex: Run, charlie: Person) -> None:
    result = cortex("--token", key_of(charlie), "apply", "-f", "-", input='{"name": "a"}')
    assert result.exit_code == 5
    assert "operator" in result.stderr


def test_login_keeps_a_good_key_for_its_owner_alone(cortex: Run, home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert cortex("login").exit_code == 0
    file = home / "cortex" / "login.json"
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    for name in ("CORTEX_URL", "CORTEX_TOKEN"):
        monkeypatch.delenv(name)
    assert cortex("ls").exit_code == 0


def test_login_keeps_no_key_that_is_not_good(cortex: Run, home: Path) -> None:
    assert cortex("--token", "ctx_nope", "login").exit_code == 5
    assert not (home / "cortex").exists()


def test_a_kept_key_is_not_sent_elsewhere() -> None:
    kept = login.Login("http://home", "secret", "http://gate")
    assert login.Login(url="http://elsewhere").with_defaults(kept).token == ""
    assert login.Login(url="http://home").with_defaults(kept).token == "secret"
    assert login.Login().with_defaults(kept) == kept


def test_a_damaged_login_file_is_named(run: Run, home: Path) -> None:
    (home / "cortex").mkdir()
    (home / "cortex" / "login.json").write_text("{oops")
    result = run("ls")
    assert result.exit_code == 2
    assert "login.json" in result.stderr


def test_keys_are_issued_listed_and_revoked(cortex: Run) -> None:
    issued = cortex("keys", "issue", "laptop", "--scope", "infer")
    assert issued.stdout.startswith("ctx_")
    key = ApiKey.objects.get(name="laptop")
    assert (key.scopes, ApiKey.objects.find(issued.stdout.strip())) == ([Scope.INFER], key)
    assert "laptop" in cortex("keys", "ls").stdout
    assert cortex("keys", "revoke", str(key.id)).exit_code == 0
    assert ApiKey.objects.find(issued.stdout.strip()) is None
    assert cortex("keys", "revoke", "99999").exit_code == 3


def test_hosts_cards_engines_and_files_are_listed(cortex: Run, tiny: dict[str, str]) -> None:
    rows.card()
    assert "Imaginary" in cortex("gpus").stdout
    assert "24.0 GiB" in cortex("gpus").stdout
    assert cortex("gpus", "-o", "name").stdout == "GPU-1\n"
    assert cortex("hosts", "-o", "name").stdout == "test\n"
    assert "llamacpp" in cortex("engines").stdout
    assert "n_gpu_layers" in cortex("engines", "llamacpp").stdout
    assert json.loads(cortex("engines", "llamacpp", "-o", "json").stdout)["additionalProperties"] is False
    assert cortex("engines", "nine").exit_code == 3
    assert cortex("files", "-o", "name").stdout == "tiny.gguf\n"


def test_doctor_names_what_is_broken_and_how_to_mend_it(cortex: Run) -> None:
    rows.host()
    result = cortex("doctor")
    lines = result.stdout.splitlines()
    assert result.exit_code == 1
    assert any(line.startswith("ok   Database") for line in lines)
    assert any(line.startswith("FAIL Broker") for line in lines)
    assert any(line.startswith("FAIL Host test") for line in lines)
    assert any(line.startswith("FAIL Gateway") for line in lines)
    assert sum(line.startswith("FAIL") for line in lines) == sum("->" in line for line in lines)


def test_doctor_without_an_api_says_how_to_start_one(run: Run) -> None:
    result = run("--url", "http://127.0.0.1:1", "doctor")
    assert result.exit_code == 1
    assert "./dev up" in result.stdout
