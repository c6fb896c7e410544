import re
import subprocess
from pathlib import Path

import pytest
from pydantic import ValidationError

from engines import engine
from engines.argv import flags
from engines.contract import ContainerSpec, Mount
from engines.llamacpp import OFFICIAL_CUDA_IMAGE, OFFICIAL_IMAGE
from engines.llamacpp_options import LlamaCppOptions
from tests.engines.launches import GPU_A, GPU_B, launch, value_of

KNOWN_FLAGS = set((Path(__file__).parent / "data" / "llama_server_flags.txt").read_text().split())
IMAGE = "cortex/llamacpp-server:cpu"


def spec(options: dict[str, object] | None = None, **changes: object) -> ContainerSpec:
    return engine("llamacpp").spec(launch(options, **changes))


def test_zero_gpu_layers_reaches_the_command_line() -> None:
    assert value_of(spec({"n_gpu_layers": 0}, gpus=(GPU_A,)).argv, "--n-gpu-layers") == "0"


@pytest.mark.parametrize(
    ("options", "flag", "written"),
    [
        ({"n_gpu_layers": 12}, "--n-gpu-layers", "12"),
        ({"flash_attn": "off"}, "--flash-attn", "off"),
        ({"cache_type_k": "q8_0"}, "--cache-type-k", "q8_0"),
        ({"cache_type_v": "iq4_nl"}, "--cache-type-v", "iq4_nl"),
        ({"cache_ram": 0}, "--cache-ram", "0"),
        ({"cache_ram": -1}, "--cache-ram", "-1"),
        ({}, "--cache-ram", "1024"),
        ({"cache_ram": None}, "--cache-ram", None),
        ({"load_mode": "mlock"}, "--load-mode", "mlock"),
        ({"load_mode": "none"}, "--load-mode", "none"),
        ({"fit": "off"}, "--fit", "off"),
        ({"batch_size": 1024}, "--batch-size", "1024"),
        ({"ubatch_size": 512}, "--ubatch-size", "512"),
        ({"threads": 3}, "--threads", "3"),
        ({}, "--threads", "6"),
        ({"numa": "isolate"}, "--numa", "isolate"),
        ({"split_mode": "row"}, "--split-mode", "row"),
        ({"main_gpu": 0}, "--main-gpu", "0"),
        ({"n_cpu_moe": 0}, "--n-cpu-moe", "0"),
        ({"pooling": "none"}, "--pooling", "none"),
        ({"chat_template": "chatml"}, "--chat-template", "chatml"),
        ({"reasoning_format": "none"}, "--reasoning-format", "none"),
        ({"rope_scaling": "yarn"}, "--rope-scaling", "yarn"),
        ({"rope_scale": 2.5}, "--rope-scale", "2.5"),
        ({"rope_freq_base": 0}, "--rope-freq-base", "0.0"),
        ({}, "--n-gpu-layers", None),
        ({}, "--flash-attn", None),
        ({}, "--ctx-size", None),
        ({}, "--parallel", None),
        ({}, "--model", "/models/tiny.gguf"),
        ({}, "--alias", "tiny"),
        ({}, "--host", "0.0.0.0"),
        ({}, "--port", "8000"),
    ],
)
def test_an_option_becomes_its_argument(options: dict[str, object], flag: str, written: str | None) -> None:
    assert value_of(spec(options).argv, flag) == written


@pytest.mark.parametrize(
    ("options", "there", "absent"),
    [
        ({"embeddings": True}, "--embeddings", "--reranking"),
        ({"reranking": True}, "--reranking", "--embeddings"),
        ({"swa_full": True}, "--swa-full", "--embeddings"),
        ({"jinja": True}, "--jinja", "--no-jinja"),
        ({"jinja": False}, "--no-jinja", "--jinja"),
        ({"kv_offload": False}, "--no-kv-offload", "--kv-offload"),
        ({"kv_unified": False}, "--no-kv-unified", "--kv-unified"),
        ({"swa_full": False}, "--metrics", "--swa-full"),
    ],
)
def test_a_switch_is_written_as_on_or_as_off(options: dict[str, object], there: str, absent: str) -> None:
    argv = spec(options).argv
    assert there in argv
    assert absent not in argv


@pytest.mark.parametrize(
    ("context", "users", "unified", "size", "slots"),
    [
        (4096, 4, None, "16384", "4"),
        (4096, 1, None, "4096", "1"),
        (4096, 4, False, "16384", "4"),
        (4096, 4, True, "4096", "4"),
        (4096, None, None, "4096", None),
        (None, 4, None, None, "4"),
        (None, None, None, None, None),
    ],
)
def test_context_is_per_user_and_the_engine_is_told_the_total(
    context: int | None, users: int | None, unified: bool | None, size: str | None, slots: str | None
) -> None:
    argv = spec({"kv_unified": unified}, context=context, users=users).argv
    assert value_of(argv, "--ctx-size") == size
    assert value_of(argv, "--parallel") == slots


@pytest.mark.parametrize(("cores", "threads"), [(1, "1"), (2, "1"), (3, "1"), (64, "62")])
def test_threads_leave_two_cores_to_the_host_but_are_at_least_one(cores: int, threads: str) -> None:
    assert value_of(spec(cores=cores).argv, "--threads") == threads


def test_a_launch_on_gpus_loads_all_layers_and_passes_their_uuids() -> None:
    made = spec({"tensor_split": [3, 1]}, gpus=(GPU_A, GPU_B))
    assert made.gpus == (GPU_A, GPU_B)
    assert made.image == OFFICIAL_CUDA_IMAGE
    assert made.env["NVIDIA_DRIVER_CAPABILITIES"] == "compute,utility"
    assert value_of(made.argv, "--n-gpu-layers") == "999"
    assert value_of(made.argv, "--tensor-split") == "3.0,1.0"


def test_a_launch_on_the_cpu_asks_for_no_gpu() -> None:
    made = spec()
    assert made.gpus == ()
    assert made.image == OFFICIAL_IMAGE
    assert made.env == {}


def test_the_container_has_the_models_read_only_and_is_asked_for_its_health() -> None:
    made = spec()
    assert made.mounts == (Mount(source="/srv/models", target="/models", read_only=True),)
    assert made.probe.path == "/health"
    assert made.port == 8000
    assert made.start_deadline == pytest.approx(70.0)


def test_a_launch_may_name_its_own_image() -> None:
    assert spec(image="ghcr.io/ggml-org/llama.cpp:server").image == "ghcr.io/ggml-org/llama.cpp:server"


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"cache_type_v": "q8_0", "flash_attn": "off"}, "Turn flash attention on"),
        ({"embeddings": True, "reranking": True}, "not both"),
        ({"tensor_split": [1, 1, 1]}, "3 shares for 2 GPUs"),
        ({"tensor_split": [0, 0]}, "not all of them 0"),
        ({"n_gpu_layers": -1}, "greater than or equal to 0"),
        ({"cache_type_k": "q3_k"}, "Input should be"),
        ({"chat_template": "/etc/passwd"}, "match pattern"),
        ({"chat_template": "{{ x }}"}, "match pattern"),
        ({"ngl": 3}, "Extra inputs are not permitted"),
    ],
)
def test_options_that_cannot_work_are_refused_in_words(options: dict[str, object], words: str) -> None:
    with pytest.raises(ValidationError, match=re.escape(words)):
        spec(options, gpus=(GPU_A, GPU_B))


def emittable() -> set[str]:
    """Every flag that the adapter can write."""
    managed = {word for word in spec(context=1, users=1).argv if word.startswith("--")}
    told = (field.json_schema_extra for field in LlamaCppOptions.model_fields.values())
    return managed | {flag for extra in told for flag in flags(extra)}


def test_every_flag_is_one_that_llama_server_knew_when_its_help_was_recorded() -> None:
    assert emittable() - KNOWN_FLAGS == set()


def test_everything_refused_by_its_full_name_exists() -> None:
    named = {flag for pattern in LlamaCppOptions.refused for flag in pattern.split() if not flag.endswith("*")}
    assert named - KNOWN_FLAGS == set()


@pytest.mark.docker
def test_every_flag_is_in_the_help_of_the_built_image() -> None:
    have = subprocess.run(["docker", "image", "inspect", IMAGE], capture_output=True, check=False)
    if have.returncode != 0:
        pytest.skip(f"{IMAGE} is not built on this machine")
    asked = subprocess.run(["docker", "run", "--rm", IMAGE, "--help"], capture_output=True, text=True, check=True)
    assert {flag for flag in emittable() if not re.search(rf"(^|[\s,]){flag}([\s,]|$)", asked.stdout)} == set()


def test_several_gpus_take_alike_unless_people_say_otherwise() -> None:
    """Left to itself the engine splits by what is free at that moment, which nobody can foresee."""
    two = {"gpus": (GPU_A, GPU_B)}
    assert value_of(spec({}, **two).argv, "--tensor-split") == "1.0,1.0"
    assert value_of(spec({"tensor_split": [3, 1]}, **two).argv, "--tensor-split") == "3.0,1.0"
    assert "--tensor-split" not in spec({"split_mode": "none"}, **two).argv
    assert "--tensor-split" not in spec({}, gpus=(GPU_A,)).argv
