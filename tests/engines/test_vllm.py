import json
import re
from pathlib import Path, PurePosixPath

import pytest
from pydantic import ValidationError

from engines import engine
from engines.argv import flags
from engines.contract import ContainerSpec, ModelFiles, Mount
from engines.vllm_options import VllmOptions
from tests.engines.launches import GPU_A, GPU_B, launch, value_of

# as the real parser of vLLM 0.32 has them: written by python -m tools.served.record
KNOWN: dict[str, list[str]] = json.loads((Path(__file__).parent / "data" / "vllm_flags.json").read_text())["choices"]
FOLDER = ModelFiles(path=PurePosixPath("/models/tiny"), size=2_000_000_000)


def spec(options: dict[str, object] | None = None, **changes: object) -> ContainerSpec:
    return engine("vllm").spec(launch(options, **{"files": FOLDER, "gpus": (GPU_A,), **changes}))


@pytest.mark.parametrize(
    ("options", "flag", "written"),
    [
        ({}, "--gpu-memory-utilization", "0.9"),
        ({"gpu_memory_utilization": 0.5}, "--gpu-memory-utilization", "0.5"),
        ({"kv_cache_dtype": "fp8"}, "--kv-cache-dtype", "fp8"),
        ({"kv_cache_memory_bytes": 0}, "--kv-cache-memory-bytes", "0"),
        ({"block_size": 8}, "--block-size", "8"),
        ({"cpu_offload_gb": 0}, "--cpu-offload-gb", "0.0"),
        ({"max_num_seqs": 7}, "--max-num-seqs", "7"),
        ({"max_num_batched_tokens": 2048}, "--max-num-batched-tokens", "2048"),
        ({"runner": "pooling"}, "--runner", "pooling"),
        ({"convert": "embed"}, "--convert", "embed"),
        ({"chat_template": "template_chatml"}, "--chat-template", "/vllm-workspace/examples/template_chatml.jinja"),
        ({"tool_call_parser": "hermes"}, "--tool-call-parser", "hermes"),
        ({"reasoning_parser": "qwen3"}, "--reasoning-parser", "qwen3"),
        ({"dtype": "bfloat16"}, "--dtype", "bfloat16"),
        ({"quantization": "awq"}, "--quantization", "awq"),
        ({"seed": 0}, "--seed", "0"),
        ({"max_loras": 2}, "--max-loras", "2"),
        ({"max_lora_rank": 64}, "--max-lora-rank", "64"),
        ({}, "--served-model-name", "tiny"),
        ({}, "--host", "0.0.0.0"),
        ({}, "--port", "8000"),
        ({}, "--max-model-len", None),
        ({}, "--max-num-seqs", None),
        ({}, "--seed", None),
        ({}, "--tensor-parallel-size", "1"),
    ],
)
def test_an_option_becomes_its_argument(options: dict[str, object], flag: str, written: str | None) -> None:
    assert value_of(spec(options).argv, flag) == written


@pytest.mark.parametrize(
    ("options", "there"),
    [
        ({}, "--enforce-eager"),
        ({"enforce_eager": False}, "--no-enforce-eager"),
        ({"enable_prefix_caching": False}, "--no-enable-prefix-caching"),
        ({"enable_chunked_prefill": True}, "--enable-chunked-prefill"),
        ({"trust_remote_code": True}, "--trust-remote-code"),
        ({}, "--no-trust-remote-code"),
        ({"enable_lora": False}, "--no-enable-lora"),
        ({"enable_auto_tool_choice": True, "tool_call_parser": "openai"}, "--enable-auto-tool-choice"),
    ],
)
def test_a_switch_is_written_as_on_or_as_off(options: dict[str, object], there: str) -> None:
    assert there in spec(options).argv


def test_adapters_follow_their_flag_one_by_one() -> None:
    argv = spec({"enable_lora": True, "lora_modules": ["a=/models/lora/a", "b=/models/lora/b"]}).argv
    at = argv.index("--lora-modules")
    assert argv[at + 1 : at + 3] == ("a=/models/lora/a", "b=/models/lora/b")


def test_context_and_users_become_length_and_sequences() -> None:
    argv = spec(context=8192, users=16).argv
    assert value_of(argv, "--max-model-len") == "8192"
    assert value_of(argv, "--max-num-seqs") == "16"


def test_sequences_set_by_hand_win_over_users() -> None:
    assert value_of(spec({"max_num_seqs": 3}, users=16).argv, "--max-num-seqs") == "3"


def test_the_model_is_the_only_argument_that_is_not_a_flag() -> None:
    assert [word for word in spec().argv if not word.startswith("-")] == ["/models/tiny"]


def test_two_gpus_are_used_in_tensor_parallel_with_room_in_shared_memory() -> None:
    made = spec(gpus=(GPU_A, GPU_B))
    assert value_of(made.argv, "--tensor-parallel-size") == "2"
    assert made.gpus == (GPU_A, GPU_B)
    assert made.shm == 8 * 1024**3
    assert made.env["NCCL_P2P_DISABLE"] == "1"
    assert made.env["NCCL_IB_DISABLE"] == "1"


def test_direct_talk_between_gpus_is_a_choice() -> None:
    made = spec({"nccl_p2p": True}, gpus=(GPU_A, GPU_B))
    assert made.env["NCCL_P2P_DISABLE"] == "0"


def test_one_gpu_needs_no_word_about_nccl() -> None:
    assert "NCCL_P2P_DISABLE" not in spec().env


def test_pipeline_parallel_divides_the_gpus() -> None:
    argv = spec({"pipeline_parallel_size": 2}, gpus=(GPU_A, GPU_B)).argv
    assert value_of(argv, "--tensor-parallel-size") == "1"


def test_the_container_is_offline_and_writes_only_to_its_tmpfs() -> None:
    made = spec()
    assert made.env["HF_HUB_OFFLINE"] == "1"
    assert made.env["VLLM_NO_USAGE_STATS"] == "1"
    assert made.env["PYTORCH_CUDA_ALLOC_CONF"] == "expandable_segments:True"
    assert made.tmpfs == ("/tmp",)
    for name in ("HOME", "XDG_CACHE_HOME", "HF_HOME", "VLLM_CACHE_ROOT", "TRITON_CACHE_DIR"):
        assert made.env[name].startswith("/tmp")
    assert made.mounts == (Mount(source="/srv/models", target="/models", read_only=True),)
    assert made.probe.path == "/health"
    assert made.entrypoint == ("vllm", "serve")


@pytest.mark.parametrize(("eager", "deadline"), [(True, 200.0), (False, 620.0)])
def test_a_start_with_graphs_may_take_longer(eager: bool, deadline: float) -> None:
    assert spec({"enforce_eager": eager}).start_deadline == pytest.approx(deadline)


def test_the_cpu_gets_its_cache_by_environment_and_no_cuda_settings() -> None:
    made = spec({"cpu_kv_cache_gib": 2}, gpus=(), image="cortex/vllm-cpu")
    assert made.env["VLLM_CPU_KVCACHE_SPACE"] == "2"
    assert spec(gpus=()).env["VLLM_CPU_KVCACHE_SPACE"] == "4"
    assert "VLLM_CPU_KVCACHE_SPACE" not in spec({"kv_cache_memory_bytes": 1 << 30}, gpus=()).env
    assert made.env["VLLM_TARGET_DEVICE"] == "cpu"
    assert "PYTORCH_CUDA_ALLOC_CONF" not in made.env
    assert value_of(made.argv, "--tensor-parallel-size") is None
    assert made.image == "cortex/vllm-cpu"


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"enable_auto_tool_choice": True}, "Tools need a tool parser"),
        ({"lora_modules": ["a=/models/a"]}, "LoRA is off"),
        ({"enable_lora": True, "lora_modules": ["a=/models/../etc"]}, "match pattern"),
        ({"enable_lora": True, "lora_modules": ["a=/etc/passwd"]}, "match pattern"),
        ({"tensor_parallel_size": 4}, "not the model's 2 GPUs"),
        ({"pipeline_parallel_size": 3}, "not the model's 2 GPUs"),
        ({"gpu_memory_utilization": 0}, "greater than 0"),
        ({"gpu_memory_utilization": 1.5}, "less than or equal to 1"),
        ({"chat_template": "../../etc/passwd"}, "match pattern"),
        ({"tool_call_parser": "/tmp/x.py"}, "match pattern"),
        ({"swap_space": 4}, "Extra inputs are not permitted"),
    ],
)
def test_options_that_cannot_work_are_refused_in_words(options: dict[str, object], words: str) -> None:
    with pytest.raises(ValidationError, match=re.escape(words)):
        spec(options, gpus=(GPU_A, GPU_B))


def test_every_flag_is_one_that_vllm_0_32_knows() -> None:
    written = spec({"chat_template": "template_chatml"}, context=1, users=1).argv
    managed = {word.split("=")[0] for word in written if word.startswith("--")}
    told = (field.json_schema_extra for field in VllmOptions.model_fields.values())
    emittable = managed | {flag for extra in told for flag in flags(extra)}
    assert emittable - KNOWN.keys() == set()


def test_every_choice_is_one_that_vllm_0_32_takes() -> None:
    schema = VllmOptions.model_json_schema()["properties"]
    offered = 0
    for name, field in VllmOptions.model_fields.items():
        for flag in flags(field.json_schema_extra):
            choices = {
                str(each) for part in (schema[name], *schema[name].get("anyOf", ())) for each in part.get("enum", ())
            }
            offered += len(choices)
            assert not KNOWN[flag] or choices <= set(KNOWN[flag]), flag
    assert offered > 40
