"""How engines say they use memory, and back from habits to options."""

import pytest
from pydantic import ValidationError

from engines import engine
from engines.contract import Engine, Launch
from engines.habits import LlamaOptions, ServeOptions
from tests.engines.launches import GPU_A, GPU_B, launch, value_of


def llama(wish: Launch) -> LlamaOptions:
    habits = engine("llamacpp").memory(wish)
    assert habits
    assert isinstance(habits.options, LlamaOptions)
    return habits.options


def vllm(wish: Launch) -> ServeOptions:
    habits = engine("vllm").memory(wish)
    assert habits
    assert isinstance(habits.options, ServeOptions)
    return habits.options


@pytest.mark.parametrize(
    ("more", "options"),
    [
        ({"context": 4096, "users": 4}, {}),
        ({"context": 4096, "users": 4}, {"kv_unified": True}),
        ({"context": 4096}, {}),
    ],
)
def test_the_context_of_llama_cpp_is_what_its_command_line_says(
    more: dict[str, int], options: dict[str, object]
) -> None:
    wish = launch(options, **more)
    argv = engine("llamacpp").spec(wish).argv
    assert value_of(argv, "--ctx-size") == str(llama(wish).context)
    assert llama(wish).slots == int(value_of(argv, "--parallel") or 4)


def test_options_of_llama_cpp_become_habits() -> None:
    options = {
        "cache_type_k": "q8_0", "cache_type_v": "q4_0", "flash_attn": "on", "n_gpu_layers": 0, "ubatch_size": 64,
        "kv_offload": False, "n_cpu_moe": 3, "swa_full": True, "tensor_split": [3, 1],
    }  # fmt: skip
    habits = llama(launch(options, gpus=(GPU_A, GPU_B), context=1024, users=2))
    assert habits == LlamaOptions(
        context=2048, slots=2, ubatch=64, key_type="q8_0", value_type="q4_0", gpu_layers=0, split=(3, 1),
        cache_on_gpu=False, whole_window=True, expert_layers_on_host=3, outputs=2, lends_weights=True,
        mixed_inputs=True, prompt_cache=1024,
    )  # fmt: skip


def test_one_gpu_only_is_a_split_that_leaves_the_others_out() -> None:
    habits = llama(launch({"split_mode": "none", "main_gpu": 1}, gpus=(GPU_A, GPU_B)))
    assert habits.split == (0.0, 1.0)


def test_what_is_left_to_the_engine_is_told() -> None:
    habits = engine("llamacpp").memory(launch())
    assert habits
    assert ["context" in habits.assumptions[0], "slots" in habits.assumptions[1]] == [True, True]
    told = engine("llamacpp").memory(launch({"extra_args": ["-mm", "/models/eye.gguf"]}, context=1, users=1))
    assert told
    assert (told.files, told.assumptions) == ({"projector_bytes": ("/models/eye.gguf",)}, ())


def test_a_draft_model_s_file_is_counted_and_the_rest_of_it_called_a_guess() -> None:
    told = engine("llamacpp").memory(launch({"extra_args": ["-md", "/models/small.gguf"]}, context=1, users=1))
    assert told
    assert told.files == {"draft_bytes": ("/models/small.gguf",)}
    assert "--model-draft" in told.assumptions[0]


@pytest.mark.parametrize(
    ("pattern", "layers"),
    [
        ("exps=CPU", 1 << 20),
        (r"blk\.[0-7]\.ffn_(up|down|gate)_exps=CPU", 8),
        (r"blk\.([0-9]|1[01])\.ffn_.*_exps\.weight=CPU", 12),
    ],
)
def test_experts_moved_by_name_are_counted_as_on_the_host(pattern: str, layers: int) -> None:
    told = engine("llamacpp").memory(launch({"extra_args": ["-ot", pattern]}, gpus=(GPU_A,), context=1, users=1))
    assert told
    assert isinstance(told.options, LlamaOptions)
    assert (told.options.expert_layers_on_host, told.assumptions) == (layers, ())


@pytest.mark.parametrize(
    "pattern",
    ["exps=CUDA1", "ffn_up=CPU", r"blk\.1[0-9]\..*_exps=CPU", "ffn_up_exps=CPU", "(=CPU", "exps=CPU,attn=CPU"],
)
def test_what_else_is_moved_by_name_is_not_guessed(pattern: str) -> None:
    told = engine("llamacpp").memory(launch({"extra_args": ["-ot", pattern]}, gpus=(GPU_A,), context=1, users=1))
    assert told
    assert isinstance(told.options, LlamaOptions)
    assert told.options.expert_layers_on_host == 0
    assert "--override-tensor" in told.assumptions[0]


def test_a_split_by_rows_is_called_by_its_name() -> None:
    told = engine("llamacpp").memory(launch({"split_mode": "row"}, gpus=(GPU_A, GPU_B), context=1, users=1))
    assert told
    assert "--split-mode row" in told.assumptions[0]


def test_options_of_vllm_become_habits() -> None:
    options = {"gpu_memory_utilization": 0.5, "kv_cache_dtype": "fp8", "enforce_eager": False, "enable_lora": True}
    habits = vllm(launch(options, gpus=(GPU_A, GPU_B), context=4096, users=8))
    assert habits == ServeOptions(
        context=4096, users=8, tensor=2, fraction=0.5, cache_type="fp8", eager=False, loras=1
    )  # fmt: skip


def test_a_split_that_does_not_cover_the_gpus_is_refused() -> None:
    with pytest.raises(ValidationError, match="is not the model's 2 GPUs"):
        engine("vllm").memory(launch({"tensor_parallel_size": 4}, gpus=(GPU_A, GPU_B)))


@pytest.mark.parametrize(
    ("name", "habits", "options"),
    [
        ("llamacpp", {"key_type": "q8_0", "value_type": "q8_0"}, {"cache_type_k": "q8_0", "cache_type_v": "q8_0"}),
        ("llamacpp", {"flash": True}, {"flash_attn": "on"}),
        ("llamacpp", {"gpu_layers": 12}, {"n_gpu_layers": 12}),
        ("vllm", {"fraction": 0.4, "eager": True}, {"gpu_memory_utilization": 0.4, "enforce_eager": True}),
        ("vllm", {"context": 512}, {}),
    ],
)
def test_habits_lead_back_to_options(name: str, habits: dict[str, object], options: dict[str, object]) -> None:
    kind = engine(name)
    assert kind.options_for(habits) == options
    kind.Options.model_validate(options)


def test_an_engine_that_says_nothing_is_not_guessed_at() -> None:
    assert Engine.memory(engine("llamacpp"), launch()) is None
