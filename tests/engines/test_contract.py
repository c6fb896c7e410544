import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

import engines
from engines import UnknownEngine, all_engines, engine
from engines.contract import Engine, start_deadline
from tests.engines.launches import GPU_A, GPU_B, launch

ENGINES = sorted(all_engines())

NEW_ENGINE = '''
"""An engine dropped in."""
from engines.contract import ContainerSpec, Engine, Options


class Echo(Engine):
    name = "echo"
    title = "Echo"
    summary = "Says it again."
    Options = Options
    image = "echo:1"
    formats = frozenset({"gguf"})
    tasks = frozenset({"generate"})

    def spec(self, launch):
        return ContainerSpec(image=self.image, argv=("echo",))

    def diagnose(self, log, exit_code):
        return None
'''


def test_a_file_dropped_into_the_package_is_an_engine(tmp_path: Path) -> None:
    shutil.copytree(Path(engines.__file__).parent, tmp_path / "engines")
    (tmp_path / "engines" / "echo.py").write_text(NEW_ENGINE)
    ask = "import engines; print(sorted(engines.all_engines())); print(engines.engine('echo').title)"
    told = subprocess.run([sys.executable, "-c", ask], cwd=tmp_path, capture_output=True, text=True, check=True)
    assert told.stdout.splitlines() == [str(sorted([*ENGINES, "echo"])), "Echo"]


def test_an_unknown_engine_is_answered_with_the_names_of_the_known() -> None:
    with pytest.raises(UnknownEngine, match=r"no engine named 'gguf'\. Choose one of: .*llamacpp.*vllm"):
        engine("gguf")


@pytest.mark.parametrize("name", ENGINES)
def test_an_engine_says_what_it_is(name: str) -> None:
    kind = engine(name)
    assert kind.name == name
    assert kind.title
    assert kind.summary.endswith(".")
    assert kind.formats
    assert kind.tasks


@pytest.mark.parametrize("name", ENGINES)
def test_the_same_launch_gives_the_same_fingerprint(name: str) -> None:
    first, second = (engine(name).spec(launch(context=512, users=2, gpus=(GPU_A,))) for _ in range(2))
    assert first == second
    assert first.fingerprint() == second.fingerprint()


@pytest.mark.parametrize("name", ENGINES)
@pytest.mark.parametrize(
    "changes",
    [
        {"context": 1024},
        {"users": 3},
        {"gpus": (GPU_B,)},
        {"gpus": (GPU_A, GPU_B)},
        {"image": "other:1"},
        {"served_name": "other"},
        {"host_models": "/other"},
        {"options": {"extra_args": ["--verbose"]}},
    ],
)
def test_what_runs_changes_the_fingerprint(name: str, changes: dict[str, object]) -> None:
    wish = launch(context=512, users=2, gpus=(GPU_A,))
    before = engine(name).spec(wish).fingerprint()
    assert engine(name).spec(wish.model_copy(update=changes)).fingerprint() != before


@given(layers=st.integers(0, 9999), other=st.integers(0, 9999))
def test_a_changed_option_changes_the_fingerprint_and_only_then(layers: int, other: int) -> None:
    prints = [engine("llamacpp").spec(launch({"n_gpu_layers": n})).fingerprint() for n in (layers, other)]
    assert (prints[0] == prints[1]) is (layers == other)


def test_how_long_we_wait_is_not_what_runs() -> None:
    made = engine("llamacpp").spec(launch())
    assert made.model_copy(update={"start_deadline": 1.0, "stop_grace": 1.0}).fingerprint() == made.fingerprint()
    assert made.pulse
    assert made.model_copy(update={"pulse": None}).fingerprint() == made.fingerprint()


@pytest.mark.parametrize("name", ENGINES)
def test_every_option_can_be_drawn_from_the_schema_alone(name: str) -> None:
    schema = engine(name).Options.model_json_schema()
    assert schema["additionalProperties"] is False
    for field in schema["properties"].values():
        assert field["title"]
        assert field["description"].endswith(".")
        assert "\n" not in field["description"]
        assert field["group"]
        assert "default" in field
    assert list(schema["properties"])[-1] == "extra_args"
    json.dumps(schema)


@pytest.mark.parametrize("name", ENGINES)
def test_every_number_has_a_bound(name: str) -> None:
    for title, field in engine(name).Options.model_json_schema()["properties"].items():
        for kind in field.get("anyOf", [field]):
            if kind.get("type") in ("integer", "number") and "enum" not in kind:
                assert {"minimum", "exclusiveMinimum"} & set(kind), title


@pytest.mark.parametrize("name", ENGINES)
def test_defaults_are_valid_and_survive_a_round_through_json(name: str) -> None:
    options = engine(name).Options()
    assert engine(name).Options.model_validate(json.loads(options.model_dump_json())) == options


@pytest.mark.parametrize(("size", "seconds"), [(0, 60.0), (100_000_000, 61.0), (65_000_000_000, 710.0)])
def test_the_start_deadline_grows_with_the_bytes(size: int, seconds: float) -> None:
    assert start_deadline(size) == pytest.approx(seconds)


def test_engines_are_instances_of_the_contract() -> None:
    assert all(isinstance(kind, Engine) for kind in all_engines().values())


@pytest.mark.parametrize(
    ("name", "line", "step"),
    [
        ("llamacpp", "0.00.568.021 I srv    load_model: initializing, n_slots = 2, n_ctx_slot = 512", "cache"),
        ("llamacpp", "srv    load_model: initializing slots, n_slots = 4", "cache"),
        ("llamacpp", "llama_kv_cache: size =   32.00 MiB (  1024 cells,  16 layers,  2/2 seqs)", "cache"),
        ("llamacpp", "llama_kv_cache_unified: size =   32.00 MiB", "cache"),
        ("llamacpp", "llama_context: constructing llama_context", "weights"),
        ("llamacpp", "load_tensors: loading model tensors, this can take a while... (mmap = true)", None),
        ("vllm", "INFO gpu_model_runner.py:1892] Model loading took 15.00 GiB and 7.1 seconds", "weights"),
        ("vllm", "INFO default_loader.py:268] Loading weights took 0.52 seconds", "weights"),
        ("vllm", "INFO kv_cache_utils.py:864] GPU KV cache size: 460,496 tokens", "cache"),
        ("vllm", "INFO gpu_worker.py:297] Available KV cache memory: 56.21 GiB", None),
    ],
)
def test_the_log_of_a_start_tells_its_steps(name: str, line: str, step: str | None) -> None:
    assert engine(name).milestone(line) == step
