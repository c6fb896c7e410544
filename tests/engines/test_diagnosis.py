"""Log lines are the engines' own: llama.cpp's were produced by build 11669, vLLM's are worded as in 0.32 and before."""

import subprocess
from pathlib import Path

import pytest

from engines import engine
from engines.diagnosis import COMMON, Rule, by_exit_code, killed
from engines.symptoms import LLAMACPP, VLLM
from tests.engines.launches import launch

IMAGE = "cortex/llamacpp-server:cpu"

LLAMACPP_LINES = [
    ("error: invalid argument: --bogus-flag", "no argument --bogus-flag", True),
    ('error while handling argument "-c": stoi', "value given to -c (stoi)", True),
    (
        "0.00.039.624 E gguf_init_from_file: failed to open GGUF file '/models/missing.gguf' "
        "(No such file or directory)",
        "/models/missing.gguf is not there",
        True,
    ),
    (
        "0.00.017.170 E gguf_init_from_reader: invalid magic characters: 'hell', expected 'GGUF'",
        "not a GGUF file",
        True,
    ),
    ("gguf_init_from_file: invalid magic number 67676a74", "not a GGUF file", True),
    ("0.00.022.135 E gguf_init_from_reader: failed to read magic", "not a GGUF file", True),
    ("0.00.019.144 E gguf_init_from_reader: failed to read header", "cut off or damaged", True),
    (
        "0.00.024.858 E llama_model_load: error loading model: tensor 'blk.0.ffn_up.weight' data is not within the "
        "file bounds, model is corrupted or incomplete",
        "cut off or damaged",
        True,
    ),
    (
        "gguf_init_from_file_impl: GGUFv1 is no longer supported, please use a more up-to-date version",
        "does not read this version",
        True,
    ),
    (
        "llama_model_load: error loading model: illegal split file idx: 1 (file: /models/x-00002-of-00003.gguf), "
        "model must be loaded with the first split",
        "part of this multi-part model is missing",
        True,
    ),
    (
        "llama_model_load: error loading model: llama_model_loader: failed to load GGUF split from "
        "/models/x-00002-of-00003.gguf",
        "part of this multi-part model is missing",
        True,
    ),
    (
        "0.00.022.950 E llama_model_load: error loading model: unknown model architecture: 'notanarch'",
        "architecture notanarch",
        True,
    ),
    (
        "llama_model_load: error loading model: error loading model vocabulary: unknown pre-tokenizer type: 'newest'",
        "tokenizer",
        True,
    ),
    (
        "0.00.020.317 E llama_model_load: error loading model: error loading model vocabulary: key not found in model: "
        "tokenizer.ggml.model",
        "tokenizer",
        True,
    ),
    (
        "0.00.021.596 E llama_model_load: error loading model: check_tensor_dims: tensor 'token_embd.weight' not found",
        "lacks something llama.cpp needs: token_embd.weight",
        True,
    ),
    (
        "0.00.022.783 E llama_init_from_model: quantized V cache requires flash_attn to be enabled",
        "needs flash attention",
        True,
    ),
    (
        "0.00.022.847 E llama_init_from_model: K cache type q4_0 with block size 32 does not divide n_embd_head_k=16",
        "K cache type q4_0 does not suit",
        True,
    ),
    ("0.00.061.594 E srv          init: init: chat template parsing error: std::exception", "chat template", True),
    (
        "0.18.183.416 E llama_init_from_model: failed to initialize the context: "
        "failed to allocate buffer for kv cache",
        "KV cache does not fit",
        False,
    ),
    ("llama_model_load: error loading model: unable to allocate CUDA0 buffer", "does not fit into memory", False),
    (
        "1.06.520.084 E ggml_gallocr_reserve_n_impl: failed to allocate CUDA1 buffer of size 54262464512",
        "does not fit into memory",
        False,
    ),
    (
        "llama_model_load_from_file_impl: invalid value for main_gpu: 3 (available devices: 2)",
        "cannot be split over the GPUs",
        True,
    ),
    (
        "ggml_backend_cuda_buffer_type_alloc_buffer: allocating 144817.04 MiB on device 0: cudaMalloc failed: "
        "out of memory",
        "GPU's memory is full",
        False,
    ),
    (
        "0.00.015.095 E srv         start: couldn't bind HTTP server socket, hostname: 0.0.0.0, port: 8000",
        "cannot take its port",
        True,
    ),
    (
        "llama-server: error while loading shared libraries: libcuda.so.1: cannot open shared object file: "
        "No such file or directory",
        "no usable NVIDIA driver",
        True,
    ),
    (
        "llama-server: error while loading shared libraries: libgomp.so.1: cannot open shared object file: "
        "No such file or directory",
        "lacks a library: libgomp.so.1",
        True,
    ),
    ("ggml_cuda_init: failed to initialize CUDA: no CUDA-capable device is detected", "no usable NVIDIA driver", True),
    ("CUDA error: no kernel image is available for execution on the device", "not built for this GPU", True),
    (
        "0.00.024.341 E gguf_init_from_file: failed to open GGUF file '/models/cut.gguf' (Permission denied)",
        "may not read its model's files",
        True,
    ),
]

VLLM_LINES = [
    (
        "ValueError: Available memory on node 0 (11.5/21.21 GiB) on kv cache allocation is less than requested memory "
        "for kv (64.0 GiB). Decrease --kv-cache-memory-bytes, VLLM_CPU_KVCACHE_SPACE",
        "Only 11.5 of the host's 21.21 GiB are free",
        False,
    ),
    ("vllm: error: unrecognized arguments: --swap-space=4", "no argument --swap-space=4", True),
    (
        "vllm serve: error: argument --dtype: invalid choice: 'int3' (choose from 'auto', 'half', 'float16')",
        "value given to --dtype: invalid choice",
        True,
    ),
    (
        "ValueError: Free memory on device cuda:0 (3.27/23.68 GiB) on startup is less than desired GPU memory "
        "utilization (0.9, 21.31 GiB). Decrease GPU memory utilization or reduce GPU memory used by other processes.",
        "Only 3.27 of 23.68 GiB are free",
        False,
    ),
    (
        "ValueError: No available memory for the cache blocks. Try increasing `gpu_memory_utilization` when "
        "initializing the engine.",
        "no room for a KV cache",
        True,
    ),
    (
        "ValueError: To serve at least one request with the model's max seq len (131072), (16.00 GiB KV cache is "
        "needed, which is larger than the available KV cache memory (5.04 GiB).",
        "cannot hold one request of 131072 tokens",
        True,
    ),
    (
        "ValueError: The model's max seq len (32768) is larger than the maximum number of tokens that can be stored "
        "in KV cache (13008). Try increasing `gpu_memory_utilization` or decreasing `max_model_len`",
        "cannot hold one request of 32768 tokens",
        True,
    ),
    (
        "Value error, User-specified max_model_len (65536) is greater than the derived max_model_len "
        "(max_position_embeddings=4096 or model_max_length=None in model's config.json).",
        "context of 65536 tokens is longer",
        True,
    ),
    (
        "AssertionError: Error in memory profiling. Initial free memory 20.1 GiB, current free memory 22.3 GiB.",
        "Another process took or gave GPU memory",
        False,
    ),
    ("OSError: You are trying to access a gated repo.", "gated", True),
    ("401 Client Error. (Request ID: Root=1-664b1557;d1df1237)", "gated", True),
    ("huggingface_hub.errors.LocalEntryNotFoundError: Cannot find the requested files", "on the network", True),
    (
        "ValueError: Model architectures ['Qwen9ForCausalLM'] are not supported for now. Supported architectures: ...",
        "architecture ['Qwen9ForCausalLM']",
        True,
    ),
    (
        "RuntimeError: Failed to load the model config. If the model is a custom model not yet available in the "
        "HuggingFace transformers library, consider setting `trust_remote_code=True` in LLM",
        "code of its own",
        True,
    ),
    ("ValueError: Invalid repository ID or local directory specified: '/models/none'.", "folder is missing", True),
    ("OSError: /models/x does not appear to have a file named config.json.", "lacks its config or tokenizer", True),
    ("RuntimeError: Cannot find any model weights with `/models/x`", "no weights that vLLM reads", True),
    (
        "safetensors_rust.SafetensorError: Error while deserializing header: MetadataIncompleteBuffer",
        "cut off or damaged",
        True,
    ),
    (
        "ValueError: Total number of attention heads (28) must be divisible by tensor parallel size (8).",
        "28 attention heads cannot be shared evenly by 8 GPUs",
        True,
    ),
    (
        "ValueError: World size (4) is larger than the number of available GPUs (2) in this node.",
        "use 4 GPUs, but its container has 2",
        True,
    ),
    ("KeyError: 'invalid tool call parser: hermez (chose from { hermes,openai })'", "parser named hermez", True),
    (
        "ValueError: The supplied chat template string (examples/x.jinja) appears path-like, but doesn't exist!",
        "chat template is missing",
        True,
    ),
    (
        "ValueError: As of transformers v4.44, default chat template is no longer allowed, so you must provide a chat "
        "template if the tokenizer does not define one.",
        "chat template is missing",
        True,
    ),
    (
        "torch.OutOfMemoryError: CUDA out of memory. Tried to allocate 224.00 MiB. GPU 0 has a total capacity of "
        "11.53 GiB of which 187.75 MiB is free.",
        "GPU's memory is full",
        False,
    ),
    ("RuntimeError: Failed to infer device type", "no usable NVIDIA driver", True),
    (
        "RuntimeError: The NVIDIA driver on your system is too old (found version 12020).",
        "no usable NVIDIA driver",
        True,
    ),
    ("torch.distributed.DistBackendError: NCCL error in: ProcessGroupNCCL.cpp:3690", "NCCL", False),
    ("OSError: [Errno 98] error while attempting to bind: Address already in use", "cannot take its port", True),
    ("OSError: [Errno 28] No space left on device: '/dev/shm/psm_1'", "shared memory is full", False),
    ("PermissionError: [Errno 13] Permission denied: '/models/x/config.json'", "may not read its model's files", True),
    ("ModuleNotFoundError: No module named 'mamba_ssm'", "lacks the Python module mamba_ssm", True),
]

ROWS = [("llamacpp", *row) for row in LLAMACPP_LINES] + [("vllm", *row) for row in VLLM_LINES]
NOISE = ["INFO 11-21 02:00:00 starting", "{'trust_remote_code': True, 'model': '/models/x'}"]


@pytest.mark.parametrize(("name", "line", "cause", "permanent"), ROWS)
def test_a_line_of_the_log_tells_the_cause(name: str, line: str, cause: str, permanent: bool) -> None:
    found = engine(name).diagnose([*NOISE, line, "Traceback (most recent call last):"], 1)
    assert found is not None
    assert cause in found.cause
    assert found.permanent is permanent
    assert found.line == line
    assert found.cause.endswith((".", ")")) or ":" in found.cause
    assert found.remedy.endswith(".")


@pytest.mark.parametrize("rule", [*COMMON, *LLAMACPP, *VLLM], ids=lambda rule: rule.pattern[:40])
def test_every_rule_is_met_by_a_line(rule: Rule) -> None:
    assert any(rule.read(line) for _, line, _, _ in ROWS) or rule.read("Illegal instruction (core dumped)")


@pytest.mark.parametrize("name", ["llamacpp", "vllm"])
@pytest.mark.parametrize(
    "log",
    [
        [],
        NOISE,
        ["WARNING Address already in use. Retrying with a new port."],
        ["0.00.138.403 I srv  llama_server: listening on http://127.0.0.1:8000"],
    ],
)
def test_ordinary_lines_are_no_cause(name: str, log: list[str]) -> None:
    assert engine(name).diagnose(log, 1) is None


def test_the_root_is_told_and_not_its_symptoms() -> None:
    log = [
        "0.00.017.154 E common_fit_params: encountered an error while trying to fit params to free device memory",
        "ggml_backend_cuda_buffer_type_alloc_buffer: allocating 9 MiB on device 0: cudaMalloc failed: out of memory",
        "0.00.018.000 E ggml_gallocr_reserve_n_impl: failed to allocate CUDA0 buffer of size 9",
        "0.18.183.416 E llama_init_from_model: failed to initialize the context: "
        "failed to allocate buffer for kv cache",
        "0.00.017.806 E srv  llama_server: exiting due to model loading error",
    ]
    found = engine("llamacpp").diagnose(log, 1)
    assert found is not None
    assert found.cause == "The KV cache does not fit."


def test_what_a_log_says_is_quoted_in_part_and_never_formatted() -> None:
    found = engine("llamacpp").diagnose(["error: invalid argument: --{0.__class__}" + "x" * 5000], 1)
    assert found is not None
    assert "--{0.__class__}" in found.cause
    assert len(found.cause) < 400


@pytest.mark.parametrize(
    ("code", "cause", "permanent"),
    [
        (132, "instruction that this host's CPU does not know", True),
        (126, "may not be executed", True),
        (127, "no such command", True),
        (134, "gave up", False),
        (135, "bus error", False),
        (139, "segmentation fault", False),
    ],
)
def test_an_exit_code_alone_tells_something(code: int, cause: str, permanent: bool) -> None:
    found = engine("llamacpp").diagnose(NOISE, code)
    assert found == by_exit_code(code)
    assert found is not None
    assert cause in found.cause
    assert found.permanent is permanent
    assert found.line == ""


@pytest.mark.parametrize("code", [None, 0, 1, 137, 143])
def test_some_exit_codes_tell_nothing(code: int | None) -> None:
    assert by_exit_code(code) is None


@pytest.mark.parametrize(
    ("code", "out_of_memory", "cause"),
    [
        (137, True, "more host memory than it may have"),
        (0, True, "more host memory than it may have"),
        (137, False, "killed from outside"),
    ],
)
def test_a_kill_is_told_apart(code: int, out_of_memory: bool, cause: str) -> None:
    found = killed(code, out_of_memory=out_of_memory)
    assert found is not None
    assert cause in found.cause


def test_an_ordinary_end_is_no_kill() -> None:
    assert killed(1, out_of_memory=False) is None


@pytest.mark.docker
@pytest.mark.parametrize(
    ("content", "extra", "cause"),
    [
        (None, [], "is not there"),
        (b"not a model at all", [], "not a GGUF file"),
        (b"GGUF\x03\x00\x00\x00", [], "cut off or damaged"),
        (b"GGUF", ["--no-such-flag"], "no argument --no-such-flag"),
    ],
)
def test_a_real_llama_server_that_fails_is_understood(
    tmp_path: Path, content: bytes | None, extra: list[str], cause: str
) -> None:
    if subprocess.run(["docker", "image", "inspect", IMAGE], capture_output=True, check=False).returncode != 0:
        pytest.skip(f"{IMAGE} is not built on this machine")
    tmp_path.chmod(0o755)
    if content is not None:
        (tmp_path / "tiny.gguf").write_bytes(content)
    argv = engine("llamacpp").spec(launch({"extra_args": extra})).argv
    command = ["docker", "run", "--rm", "-v", f"{tmp_path}:/models:ro", IMAGE, *argv]
    ended = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    found = engine("llamacpp").diagnose((ended.stdout + ended.stderr).splitlines(), ended.returncode)
    assert ended.returncode == 1
    assert found is not None
    assert cause in found.cause
    assert found.permanent
