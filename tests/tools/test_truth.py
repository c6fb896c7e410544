import json
import subprocess
from pathlib import Path

import pytest

from tools.plans.dense_models import dense_models
from tools.plans.sparse import write_sparse
from tools.truth import main, read_rows
from tools.truth_facts import Row
from tools.truth_rows import Missing, Prediction, answers

DEV = Path(__file__).parents[2] / "dev"
ROW: dict[str, object] = {
    "id": "vllm-99",
    "engine": "vllm",
    "model": "example/Llama-8B bf16",
    "hyperparams": {
        "layers": 32,
        "hidden": 4096,
        "heads": 32,
        "kv_heads": 8,
        "head_dim": 128,
        "intermediate": 14336,
        "vocab": 128256,
        "params_b": 8.03,
    },
    "config": {"tp": 1, "max_model_len": 131072},
    "gpu": "A100 80GB (79.25 GiB)",
    "measured": {"weights_gib": 15.0, "kv_gib": 56.21, "kv_tokens": 460496, "max_concurrency": 3.51},
}
HYBRID: dict[str, object] = {
    "id": "lcpp-99",
    "engine": "llama.cpp",
    "engine_version": "2026",
    "model": "Hybrid-27B Q4_K_S",
    "hyperparams": {
        "layers": 64,
        "full_layers": 16,
        "linear_layers": 48,
        "hidden": 5120,
        "kv_heads": 4,
        "head_dim": 256,
        "ssm_d_conv": 4,
        "ssm_d_inner": 6144,
        "ssm_d_state": 128,
        "ssm_dt_rank": 48,
        "ssm_n_group": 16,
        "vocab": 248320,
        "params_b": 26.9,
    },
    "config": {"n_ctx": "131072 (read)", "cache": "f16", "flash_attn": "auto->on"},
    "measured": {"kv_mib": {"CPU": 4608.0, "CUDA0": 3584.0, "total": 8192.0}, "rs_mib": {"total": 149.62}},
}
POOR: dict[str, object] = {
    "id": "vllm-98",
    "engine": "vllm",
    "model": "unknown",
    "hyperparams": {},
    "measured": {"kv_tokens": 5},
}


def judged(rows: list[dict[str, object]], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> dict[str, object]:
    path = tmp_path / "rows.json"
    path.write_text(json.dumps(rows))
    assert main([str(path), "--json"]) == 0
    answer = json.loads(capsys.readouterr().out)
    assert isinstance(answer, dict)
    return answer


def errors(answer: dict[str, object]) -> dict[str, float]:
    rows = answer["rows"]
    assert isinstance(rows, list)
    return {each["quantity"]: each["error"] for row in rows for each in row["predictions"]}


def test_a_served_row_is_predicted_quantity_by_quantity(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    found = errors(judged([ROW], tmp_path, capsys))
    assert abs(found["weights"]) < 0.02
    assert abs(found["kv_cache"]) < 0.001
    assert abs(found["kv_tokens"]) < 0.001
    assert abs(found["max_concurrency"]) < 0.02


def test_a_hybrid_row_has_cache_and_state(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    found = errors(judged([HYBRID], tmp_path, capsys))
    assert abs(found["kv_cache"]) < 0.005
    assert abs(found["state"]) < 0.005


def test_a_row_without_facts_names_the_missing_one(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    answer = judged([ROW, POOR], tmp_path, capsys)
    rows, total = answer["rows"], answer["summary"]
    assert isinstance(rows, list)
    assert isinstance(total, dict)
    assert rows[1]["missing"] == [{"quantity": "all", "fact": "hyperparams.layers"}]
    assert total["covered"] == 0.5


@pytest.mark.parametrize("value", [None, 0, -3, [1, 2], "n/a", 1e30])
@pytest.mark.parametrize("part", ["hyperparams", "config", "measured"])
@pytest.mark.parametrize("row", [ROW, HYBRID], ids=["served", "hybrid"])
def test_nonsense_in_a_row_is_missing_and_no_crash(row: dict[str, object], part: str, value: object) -> None:
    facts = row[part]
    assert isinstance(facts, dict)
    for name in facts:
        for answer in answers(Row(row | {part: facts | {name: value}})):
            assert isinstance(answer, (Missing, Prediction))


def test_plans_of_llama_cpp_are_read_from_lines(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    model = next(each for each in dense_models() if each.name == "llama-2-13b")
    write_sparse(tmp_path / "x.gguf", model.family, model.header(), model.layout)
    row = {
        "gguf": "x.gguf",
        "args": ["-c", "8192", "-fa", "on", "-ngl", "999"],
        "devices": [{"model": 13024, "context": 6400, "compute": 85}],
        "host": {"model": 166, "context": 0, "compute": 26},
    }
    (tmp_path / "rows.jsonl").write_text(json.dumps(row) + "\n")
    assert main([str(tmp_path / "rows.jsonl")]) == 0
    out = capsys.readouterr().out
    assert "covered 100.0 %" in out
    assert "context" in out


def test_a_plan_whose_file_is_gone_is_missing_and_not_guessed(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    answer = judged([{"gguf": "gone.gguf", "args": [], "devices": []}], tmp_path, capsys)
    rows = answer["rows"]
    assert isinstance(rows, list)
    assert "gone.gguf cannot be read" in rows[0]["missing"][0]["fact"]


def test_a_wrong_call_is_explained(capsys: pytest.CaptureFixture[str]) -> None:
    assert main([]) == 2
    assert "usage" in capsys.readouterr().err


def test_lists_and_lines_are_both_rows(tmp_path: Path) -> None:
    (tmp_path / "a").write_text('[{"id": 1}, {"id": 2}]')
    (tmp_path / "b").write_text('{"id": 1}\n\n{"id": 2}\n')
    assert read_rows(tmp_path / "a") == read_rows(tmp_path / "b")


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (None, "cannot be read"),
        ("root:x:0:0\n", "line 1: no JSON"),
        ('{"id": "a"}\n\n{"id": 1\n', "line 3: no JSON"),
        ('[{"id": "a"},\n {"id" 1}]', "line 2: no JSON"),
        ("[1, 2]", "row 1 is no JSON object"),
        ("[]", "it holds no rows"),
        ("", "it holds no rows"),
        ("[" * 100_000, "no JSON"),
        ("\udcff", "cannot be read"),
    ],
)
def test_a_file_without_rows_is_refused_in_words(
    tmp_path: Path, text: str | None, words: str, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "rows.json"
    if text is not None:
        path.write_bytes(text.encode(errors="surrogateescape"))
    assert main([str(path)]) == 2
    told = capsys.readouterr()
    assert (told.out, words in told.err, str(path) in told.err) == ("", True, True)


def test_files_are_named_from_where_people_stand(tmp_path: Path) -> None:
    (tmp_path / "rows.json").write_text(json.dumps([ROW]))
    done = subprocess.run([DEV, "truth", "rows.json"], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert (done.returncode, "rows 1, covered 100.0 %" in done.stdout) == (0, True), done.stderr
    away = subprocess.run(
        [DEV, "cli", "apply", "-f", "no.yaml"], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert "no.yaml" in away.stderr
