"""What people may set for ``vllm serve``."""

from typing import Annotated, Literal, Self

from pydantic import Field, ValidationInfo, model_validator

from engines import argv
from engines.argv import Arguments, ExtraArgs, drawn

Gpus = Annotated[int, Field(ge=1, le=64)]
Name = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$")]
Adapter = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*=/models/[^\s/.][^\s/]*(/[^\s/.][^\s/]*)*$")]
Quantization = Literal[
    "awq", "awq_marlin", "gptq", "gptq_marlin", "fp8", "compressed-tensors", "modelopt", "modelopt_fp4", "mxfp4",
    "moe_wna16", "experts_int8", "quark", "torchao", "inc", "fp8_per_tensor", "fp8_per_block", "fp8_per_channel",
    "int8_per_channel_weight_only", "mxfp8", "nvfp4_per_token",
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
        ge=1,
        le=4096,
        title="Cache on the CPU (GiB)",
        description="Host memory for the KV cache when the model runs without a GPU, 4 by default.",
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
        description="How the weights are quantized; empty is as the config says, fp8_per_tensor makes 8 bits of 16.",
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
