"""vLLM: safetensors models on GPUs, for many users at once."""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import PurePosixPath
from typing import Annotated, Literal, Self

from pydantic import Field, ValidationInfo, model_validator

from engines import argv
from engines.argv import Arguments, ExtraArgs, drawn
from engines.contract import MODELS, ContainerSpec, Diagnosis, Engine, Launch, Mount, one_token, start_deadline
from engines.diagnosis import judge
from engines.habits import MemoryHabits, ServeOptions
from engines.symptoms import VLLM

TEMPLATES = PurePosixPath("/vllm-workspace/examples")
CACHE = "/tmp/cache"  # noqa: S108 - the container's own tmpfs
GIB = 1024**3
SEQUENCES, BATCHED_TOKENS, BLOCK = 256, 8192, 16
OPTION_OF = {
    "fraction": "gpu_memory_utilization", "cache_type": "kv_cache_dtype", "batched_tokens": "max_num_batched_tokens",
    "eager": "enforce_eager", "tensor": "tensor_parallel_size",
}  # fmt: skip

Gpus = Annotated[int, Field(ge=1, le=64)]
Name = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$")]
Adapter = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*=/models/[^\s/.][^\s/]*(/[^\s/.][^\s/]*)*$")]
Quantization = Literal[
    "awq", "awq_marlin", "gptq", "gptq_marlin", "fp8", "compressed-tensors", "modelopt", "modelopt_fp4", "mxfp4",
    "moe_wna16", "experts_int8", "quark", "torchao", "inc",
]  # fmt: skip


class VllmOptions(Arguments):
    """What people may set for ``vllm serve``. Flags are those of vLLM 0.32."""

    equals = True
    refused = {
        "--host --port --uds --grpc-port --root-path --fd": argv.ADDRESS,
        "--model --model-tag --served-model-name --tokenizer --hf-config-path --revision": argv.MODEL,
        "--code-revision --tokenizer-revision": argv.MODEL,
        "--max-model-len": argv.CONTEXT,
        "--api-key --ssl* --enable-ssl* --allow* --middleware --enable-offline-docs": argv.SECURITY,
        "--config --chat-template --download-dir --log-config-file --logging-config --hf-token": argv.FILES,
        "--allowed-local-media-path --mm-encoder-fp8-scale* --profiler-config --otlp*": argv.FILES,
        "--load-format --model-loader-extra-config --model-class-overrides --hf-overrides": argv.CODE,
        "--tool-parser-plugin --reasoning-parser-plugin --io-processor-plugin --tool-server": argv.CODE,
        "--worker-cls --worker-extension-cls --scheduler-cls --distributed-executor-backend": argv.CODE,
        "--kv-transfer-config --kv-events-config --ec-* --weight-transfer-config --additional-config": argv.CODE,
        "--master-* --nnodes --node-rank -n -r --data-parallel* -dp*": argv.CODE,
        "--headless --enable-prompt-embeds --enable-mm-embeds --trust-request*": argv.CODE,
        "--logits-processors --enable-sleep-mode": argv.CODE,
        "--help -h --version -v": argv.QUITS,
    }

    gpu_memory_utilization: float = Field(
        0.9,
        gt=0,
        le=1,
        title="Share of GPU memory",
        description="How much of each GPU's whole memory vLLM fills; what weights leave becomes cache.",
        json_schema_extra=drawn(
            "Context and memory", "--gpu-memory-utilization", short=("--device-memory-utilization",)
        ),
    )
    kv_cache_dtype: Literal["auto", "float16", "bfloat16", "fp8", "fp8_e4m3", "fp8_e5m2", "nvfp4"] | None = Field(
        None,
        title="Cache type",
        description="Number format of the KV cache; fp8 halves it on GPUs that have it (Ada, Hopper and newer).",
        json_schema_extra=drawn("Context and memory", "--kv-cache-dtype"),
    )
    kv_cache_memory_bytes: int | None = Field(
        None,
        ge=0,
        title="Cache size (bytes)",
        description="Exact KV cache per GPU; replaces the share of GPU memory when set.",
        json_schema_extra=drawn("Context and memory", "--kv-cache-memory-bytes", advanced=True),
    )
    block_size: int | None = Field(
        None,
        ge=1,
        le=1024,
        title="Cache block (tokens)",
        description="Tokens in one block of cache, 16 by default; smaller wastes less, most kernels want 16 or more.",
        json_schema_extra=drawn("Context and memory", "--block-size", advanced=True),
    )
    cpu_offload_gb: float | None = Field(
        None,
        ge=0,
        le=4096,
        title="Weights in host memory (GiB)",
        description="Part of the weights per GPU kept in host memory; every step then waits for the bus.",
        json_schema_extra=drawn("Context and memory", "--cpu-offload-gb", advanced=True),
    )
    cpu_kv_cache_gib: int | None = Field(
        None,
        ge=0,
        le=4096,
        title="Cache on the CPU (GiB)",
        description="Host memory for the KV cache when the model runs without a GPU.",
        json_schema_extra=drawn("Context and memory", advanced=True),
    )
    max_num_seqs: int | None = Field(
        None,
        ge=1,
        le=65_536,
        title="Requests at once",
        description="Most requests computed together; empty means the model's users.",
        json_schema_extra=drawn("Speed", "--max-num-seqs"),
    )
    max_num_batched_tokens: int | None = Field(
        None,
        ge=1,
        le=1_048_576,
        title="Tokens in a step",
        description="Most tokens computed in one step: more is faster prompts and more memory.",
        json_schema_extra=drawn("Speed", "--max-num-batched-tokens"),
    )
    enforce_eager: bool = Field(
        True,
        title="Eager mode",
        description="On starts sooner and needs less memory; off uses CUDA graphs, which answer faster.",
        json_schema_extra=drawn("Speed", "--enforce-eager", off="--no-enforce-eager"),
    )
    enable_prefix_caching: bool | None = Field(
        None,
        title="Prefix caching",
        description="Reuse the cache of prompts that begin alike, as in chats and with documents.",
        json_schema_extra=drawn("Speed", "--enable-prefix-caching", off="--no-enable-prefix-caching"),
    )
    enable_chunked_prefill: bool | None = Field(
        None,
        title="Chunked prefill",
        description="Cut long prompts into pieces so that they don't hold up running answers.",
        json_schema_extra=drawn("Speed", "--enable-chunked-prefill", off="--no-enable-chunked-prefill", advanced=True),
    )
    tensor_parallel_size: Gpus | None = Field(
        None,
        title="Tensor parallel",
        description="GPUs that share every layer; empty means all GPUs of the model.",
        json_schema_extra=drawn("GPUs", "--tensor-parallel-size", short=("-tp",)),
    )
    pipeline_parallel_size: Gpus | None = Field(
        None,
        title="Pipeline parallel",
        description="Groups of GPUs that take the layers one after another.",
        json_schema_extra=drawn("GPUs", "--pipeline-parallel-size", short=("-pp",), advanced=True),
    )
    nccl_p2p: bool = Field(
        False,
        title="GPUs talk directly",
        description="Let GPUs reach each other's memory: faster with NVLink, hangs on some boards without.",
        json_schema_extra=drawn("GPUs", advanced=True),
    )
    nccl_infiniband: bool = Field(
        False,
        title="InfiniBand",
        description="Let GPUs use InfiniBand; on only where the host has it.",
        json_schema_extra=drawn("GPUs", advanced=True),
    )
    runner: Literal["auto", "generate", "pooling"] | None = Field(
        None,
        title="Runner",
        description="What the model does: generate text, or pool it into embeddings and scores.",
        json_schema_extra=drawn("Task", "--runner"),
    )
    convert: Literal["auto", "none", "embed", "classify"] | None = Field(
        None,
        title="Convert to",
        description="Turn a text model into one that embeds or classifies.",
        json_schema_extra=drawn("Task", "--convert", advanced=True),
    )
    chat_template: Name | None = Field(
        None,
        title="Chat template",
        description="Name of a template the image ships, for example tool_chat_template_hermes.",
        json_schema_extra=drawn("Chat", advanced=True),
    )
    enable_auto_tool_choice: bool | None = Field(
        None,
        title="Tools",
        description="Let the model decide to call tools; needs a tool parser.",
        json_schema_extra=drawn("Chat", "--enable-auto-tool-choice", off="--no-enable-auto-tool-choice"),
    )
    tool_call_parser: Name | None = Field(
        None,
        title="Tool parser",
        description="How this model writes tool calls, for example hermes, llama3_json or openai.",
        json_schema_extra=drawn("Chat", "--tool-call-parser"),
    )
    reasoning_parser: Name | None = Field(
        None,
        title="Reasoning parser",
        description="How this model marks its thoughts, for example qwen3 or deepseek_r1.",
        json_schema_extra=drawn("Chat", "--reasoning-parser"),
    )
    dtype: Literal["auto", "half", "float16", "bfloat16", "float", "float32"] | None = Field(
        None,
        title="Number format",
        description="Format of weights and activations; auto follows the model.",
        json_schema_extra=drawn("Model", "--dtype"),
    )
    quantization: Quantization | None = Field(
        None,
        title="Quantization",
        description="How the weights are quantized; empty means as the model's config says.",
        json_schema_extra=drawn("Model", "--quantization", short=("-q",), advanced=True),
    )
    trust_remote_code: bool = Field(
        False,
        title="Trust the model's code",
        description="Run Python code that comes with the model. Only for publishers you trust.",
        json_schema_extra=drawn("Model", "--trust-remote-code", off="--no-trust-remote-code", advanced=True),
    )
    seed: int | None = Field(
        None,
        ge=0,
        le=2**32 - 1,
        title="Seed",
        description="Start of the random numbers, for answers that repeat.",
        json_schema_extra=drawn("Model", "--seed", advanced=True),
    )
    enable_lora: bool | None = Field(
        None,
        title="LoRA adapters",
        description="Serve adapters on top of the model.",
        json_schema_extra=drawn("LoRA", "--enable-lora", off="--no-enable-lora", advanced=True),
    )
    lora_modules: tuple[Adapter, ...] = Field(
        (),
        max_length=64,
        title="Adapters",
        description="Each as name=/models/folder.",
        json_schema_extra=drawn("LoRA", "--lora-modules", advanced=True),
    )
    max_loras: int | None = Field(
        None,
        ge=1,
        le=256,
        title="Adapters at once",
        description="Most adapters in one step; memory is kept for each.",
        json_schema_extra=drawn("LoRA", "--max-loras", advanced=True),
    )
    max_lora_rank: Literal[1, 8, 16, 32, 64, 128, 256, 320, 512] | None = Field(
        None,
        title="Largest rank",
        description="Highest rank among the adapters, 16 by default.",
        json_schema_extra=drawn("LoRA", "--max-lora-rank", advanced=True),
    )
    extra_args: ExtraArgs = ()

    @model_validator(mode="after")
    def _agrees_with_itself(self, info: ValidationInfo) -> Self:
        if self.enable_auto_tool_choice and self.tool_call_parser is None:
            raise ValueError("Tools need a tool parser. Choose the one for this model, for example hermes.")
        if self.lora_modules and not self.enable_lora:
            raise ValueError("Adapters are listed, but LoRA is off. Turn LoRA adapters on, or remove them.")
        gpus = (info.context or {}).get("gpus")
        if gpus:
            self._covers(gpus)
        return self

    def _covers(self, gpus: int) -> None:
        pipeline = self.pipeline_parallel_size or 1
        tensor = self.tensor_parallel_size or gpus // pipeline
        if tensor * pipeline != gpus:
            raise ValueError(
                f"Tensor parallel {tensor} x pipeline parallel {pipeline} is not the model's {gpus} GPUs. "
                "Change one of them, or leave both empty."
            )


class Vllm(Engine):
    """``vllm serve`` in a container, one model each."""

    name = "vllm"
    title = "vLLM"
    summary = "Safetensors models on GPUs. Fast with many users at once."
    Options = VllmOptions
    image = "vllm/vllm-openai:v0.32.0"
    formats = frozenset({"safetensors"})
    tasks = frozenset({"generate", "embed", "rerank"})

    def spec(self, launch: Launch) -> ContainerSpec:
        """The container of ``vllm serve``.

        Without GPUs the launch must name a CPU build as its image: the official one has CUDA kernels only.
        """
        options = VllmOptions.model_validate(launch.options, context={"gpus": len(launch.gpus)})
        spec = ContainerSpec(
            image=launch.image or self.image,
            entrypoint=("vllm", "serve"),
            argv=(),
            env=_environment(launch, options),
            mounts=(Mount(source=launch.host_models, target=str(MODELS)),),
            gpus=launch.gpus,
            token=one_token(launch.served_name),
            # Workers of one model pass tensors through /dev/shm; Docker's own 64 MiB end in a bus error.
            shm=4 * GIB * max(1, len(launch.gpus)),
            start_deadline=start_deadline(launch.files.size, floor=180 if options.enforce_eager else 600),
            stop_grace=30,
        )
        return spec.model_copy(update={"argv": (*_managed(launch, options, spec.port), *options.extra_args)})

    def memory(self, launch: Launch) -> MemoryHabits:
        """vLLM fills its share of each GPU: weights first, then what a full batch takes, the rest is cache."""
        options = VllmOptions.model_validate(launch.options, context={"gpus": len(launch.gpus)})
        return MemoryHabits(_habits(launch, options), assumptions=tuple(_left_open(launch, options)))

    def options_for(self, habits: Mapping[str, object]) -> dict[str, object]:
        """Share, cache type, batch, graphs and split by vLLM's names."""
        return {OPTION_OF[habit]: value for habit, value in habits.items() if habit in OPTION_OF}

    def diagnose(self, log: Sequence[str], exit_code: int | None) -> Diagnosis | None:
        """Why vLLM ended."""
        return judge(log, exit_code, VLLM)


def _managed(launch: Launch, options: VllmOptions, port: int) -> list[str]:
    words = [str(launch.files.path), f"--served-model-name={launch.served_name}"]
    words += ["--host=0.0.0.0", f"--port={port}", "--disable-uvicorn-access-log"]
    if launch.context is not None:
        words.append(f"--max-model-len={launch.context}")
    if options.chat_template is not None:
        words.append(f"--chat-template={TEMPLATES / options.chat_template}.jinja")
    return words + _defaults(launch, options).argv()


def _defaults(launch: Launch, options: VllmOptions) -> VllmOptions:
    """The options with what Cortex chooses where people chose nothing."""
    chosen: dict[str, object] = {}
    if options.max_num_seqs is None:
        chosen["max_num_seqs"] = launch.users
    if options.tensor_parallel_size is None and launch.gpus:
        chosen["tensor_parallel_size"] = len(launch.gpus) // (options.pipeline_parallel_size or 1)
    return options.model_copy(update=chosen)


def _environment(launch: Launch, options: VllmOptions) -> dict[str, str]:
    env = {
        "HF_HUB_OFFLINE": "1",
        "VLLM_NO_USAGE_STATS": "1",
        "DO_NOT_TRACK": "1",
        "HOME": "/tmp",  # noqa: S108 - the container's own tmpfs
        "XDG_CACHE_HOME": CACHE,
        "HF_HOME": f"{CACHE}/huggingface",
        "VLLM_CACHE_ROOT": f"{CACHE}/vllm",
        "TRITON_CACHE_DIR": f"{CACHE}/triton",
        "TORCHINDUCTOR_CACHE_DIR": f"{CACHE}/inductor",
        "FLASHINFER_WORKSPACE_BASE": CACHE,
    }
    return env | (_for_gpus(launch, options) if launch.gpus else _for_cpu(options))


def _for_gpus(launch: Launch, options: VllmOptions) -> dict[str, str]:
    env = {
        "NVIDIA_DRIVER_CAPABILITIES": "compute,utility",
        "PYTORCH_CUDA_ALLOC_CONF": "expandable_segments:True",
    }
    if len(launch.gpus) > 1:
        env["NCCL_P2P_DISABLE"] = "0" if options.nccl_p2p else "1"
        env["NCCL_IB_DISABLE"] = "0" if options.nccl_infiniband else "1"
    return env


def _for_cpu(options: VllmOptions) -> dict[str, str]:
    if options.cpu_kv_cache_gib is None:
        return {}
    return {"VLLM_CPU_KVCACHE_SPACE": str(options.cpu_kv_cache_gib)}


def _habits(launch: Launch, options: VllmOptions) -> ServeOptions:
    pipeline = options.pipeline_parallel_size or 1
    cache = options.kv_cache_memory_bytes if launch.gpus else (options.cpu_kv_cache_gib or 0) * GIB
    context = launch.context or 0
    batched = options.max_num_batched_tokens or BATCHED_TOKENS
    return ServeOptions(
        engine="vllm",
        context=context,
        users=options.max_num_seqs or launch.users or SEQUENCES,
        tensor=options.tensor_parallel_size or max(1, len(launch.gpus) // pipeline),
        pipeline=pipeline,
        fraction=options.gpu_memory_utilization,
        cache_type=options.kv_cache_dtype or "auto",
        block=options.block_size or BLOCK,
        batched_tokens=max(batched, context) if options.enable_chunked_prefill is False else batched,
        eager=options.enforce_eager,
        loras=(options.max_loras or 1) if options.enable_lora else 0,
        lora_rank=options.max_lora_rank or 16,
        cache_bytes=cache or 0,
    )


def _left_open(launch: Launch, options: VllmOptions) -> Iterator[str]:
    if launch.context is None:
        yield "No context is set: one request may be as long as the model was trained for. Set one to need less."
    if launch.users is None and options.max_num_seqs is None:
        yield f"No users are set: the engine takes up to {SEQUENCES} requests at once."
    if options.cpu_offload_gb:
        yield f"The {options.cpu_offload_gb:g} GiB of weights kept in host memory are still counted on the GPU."
    if options.quantization is not None:
        yield f"Weights are counted as the files hold them, whatever {options.quantization} makes of them at the start."
    if options.extra_args:
        yield "Extra arguments are not looked into: some of them need memory."
