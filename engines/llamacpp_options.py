"""What people may set for llama-server."""

from typing import Annotated, Literal, Self

from pydantic import Field, ValidationInfo, field_validator, model_validator

from engines import argv
from engines.argv import Arguments, ExtraArgs, drawn

Layers = Annotated[int, Field(ge=0, le=9999)]
Tokens = Annotated[int, Field(ge=1, le=65_536)]
CacheType = Literal["f32", "f16", "bf16", "q8_0", "q4_0", "q4_1", "iq4_nl", "q5_0", "q5_1"]
UNQUANTIZED = frozenset({"f32", "f16", "bf16", None})


class LlamaCppOptions(Arguments):
    """What people may set for llama-server."""

    refused = {
        "--host --port --reuse-port": argv.ADDRESS,
        "--model -m --alias -a --tags": argv.MODEL,
        "--ctx-size -c --parallel -np --kv-unified-per-slot": argv.CONTEXT,
        "--api-* --ssl* --cors-* --props": argv.SECURITY,
        "--path --ui* --no-ui* --webui* --no-webui* --media-path --slot-save-path --log-* --no-log-*": argv.FILES,
        "--chat-template-file --grammar-file --json-schema-file -jf": argv.FILES,
        "--lookup-cache-* -lcs -lcd --video-ffmpeg-dir --control-vector* --lora --lora-scaled": argv.FILES,
        "--tools* --agent -ag --mcp-* --rpc --models-* --offline": argv.CODE,
        "--hf-* -hf -hfr -hff -hft -hfd -hfrd --spec-draft-hf": argv.CODE,
        "--model-url -mu --docker-repo -dr --mmproj-url -mmu": argv.CODE,
        "--embd-gemma-default --fim-* --gpt-oss-* --vision-* --spec-default": argv.CODE,
        "--help -h --usage --version --cache-list -cl --completion-bash --list-devices": argv.QUITS,
    }

    n_gpu_layers: Layers | None = Field(
        None,
        title="Layers on the GPU",
        description="How many layers to load onto the GPUs; 0 keeps all on the CPU, empty means all of them.",
        json_schema_extra=drawn("GPUs", "--n-gpu-layers", short=("-ngl", "--gpu-layers")),
    )
    flash_attn: Literal["on", "off", "auto"] | None = Field(
        None,
        title="Flash attention",
        description="Faster attention that needs less memory; a quantized V cache needs it.",
        json_schema_extra=drawn("Speed", "--flash-attn", short=("-fa",)),
    )
    cache_type_k: CacheType | None = Field(
        None,
        title="K cache type",
        description="Number format of the cached keys; q8_0 halves them against f16.",
        json_schema_extra=drawn("Context and memory", "--cache-type-k", short=("-ctk",)),
    )
    cache_type_v: CacheType | None = Field(
        None,
        title="V cache type",
        description="Number format of the cached values; quantized ones need flash attention.",
        json_schema_extra=drawn("Context and memory", "--cache-type-v", short=("-ctv",)),
    )
    kv_unified: bool | None = Field(
        None,
        title="One cache for all users",
        description="Users share one cache as large as one context, instead of each having their own.",
        json_schema_extra=drawn(
            "Context and memory", "--kv-unified", short=("-kvu", "-no-kvu"), off="--no-kv-unified", advanced=True
        ),
    )
    cache_ram: int | None = Field(
        1024,
        ge=-1,
        le=1_048_576,
        title="Prompt cache in RAM (MiB)",
        description="Host memory that keeps finished prompts; 0 is none, -1 no limit, the engine's default 8192.",
        json_schema_extra=drawn("Context and memory", "--cache-ram", short=("-cram",)),
    )
    swa_full: bool = Field(
        False,
        title="Full sliding-window cache",
        description="Keep all tokens of sliding-window layers: more memory, more prompts reused.",
        json_schema_extra=drawn("Context and memory", "--swa-full", advanced=True),
    )
    load_mode: Literal["auto", "none", "mmap", "mlock", "mmap+mlock", "dio"] | None = Field(
        None,
        title="Load mode",
        description="How weights reach memory: none loads without mmap, mlock forbids the host to swap them out.",
        json_schema_extra=drawn("Context and memory", "--load-mode", short=("-lm",), advanced=True),
    )
    fit: Literal["on", "off"] | None = Field(
        None,
        title="Fit by itself",
        description="Let the engine lower what is not set here until it fits the GPUs.",
        json_schema_extra=drawn("Context and memory", "--fit", short=("-fit",), advanced=True),
    )
    batch_size: Tokens | None = Field(
        None,
        title="Batch",
        description="Most prompt tokens taken at once from all users; the engine's default is 2048.",
        json_schema_extra=drawn("Speed", "--batch-size", short=("-b",)),
    )
    ubatch_size: Tokens | None = Field(
        None,
        title="Physical batch",
        description="Most tokens computed in one step, default 512; a text to embed must fit in it.",
        json_schema_extra=drawn("Speed", "--ubatch-size", short=("-ub",)),
    )
    threads: int | None = Field(
        None,
        ge=1,
        le=1024,
        title="Threads",
        description="CPU threads that compute; empty means the host's cores less two.",
        json_schema_extra=drawn("Speed", "--threads", short=("-t",)),
    )
    numa: Literal["distribute", "isolate", "numactl"] | None = Field(
        None,
        title="NUMA",
        description="How to use several memory nodes: spread over all, or stay on the one it starts on.",
        json_schema_extra=drawn("Speed", "--numa", advanced=True),
    )
    split_mode: Literal["none", "layer", "row", "tensor"] | None = Field(
        None,
        title="Split over GPUs",
        description="Split the model over the GPUs by layers (the default) or by rows, or use one GPU only.",
        json_schema_extra=drawn("GPUs", "--split-mode", short=("-sm",), advanced=True),
    )
    tensor_split: tuple[float, ...] = Field(
        (),
        max_length=16,
        title="Share of each GPU",
        description="Proportion of the model that each GPU takes, in their order, for example 3 and 1; else all alike.",
        json_schema_extra=drawn("GPUs", "--tensor-split", short=("-ts",), joiner=",", advanced=True),
    )
    main_gpu: int | None = Field(
        None,
        ge=0,
        le=15,
        title="Main GPU",
        description="Which of the model's GPUs, counted from 0, holds what is not split.",
        json_schema_extra=drawn("GPUs", "--main-gpu", short=("-mg",), advanced=True),
    )
    n_cpu_moe: Layers | None = Field(
        None,
        title="Expert layers on the CPU",
        description="Keep the experts of the first layers of a mixture-of-experts model in host memory.",
        json_schema_extra=drawn("GPUs", "--n-cpu-moe", short=("-ncmoe",), advanced=True),
    )
    kv_offload: bool | None = Field(
        None,
        title="Cache on the GPU",
        description="Off keeps the KV cache in host memory: slower, but leaves the GPU to the weights.",
        json_schema_extra=drawn("GPUs", "--kv-offload", short=("-kvo", "-nkvo"), off="--no-kv-offload", advanced=True),
    )
    embeddings: bool = Field(
        False,
        title="Embeddings",
        description="Serve embeddings and nothing else.",
        json_schema_extra=drawn("Task", "--embeddings", short=("--embedding",)),
    )
    reranking: bool = Field(
        False,
        title="Reranking",
        description="Serve the reranking of documents with a reranker model.",
        json_schema_extra=drawn("Task", "--reranking", short=("--rerank",)),
    )
    pooling: Literal["none", "mean", "cls", "last", "rank"] | None = Field(
        None,
        title="Pooling",
        description="How token vectors become one vector; empty means the model's own way.",
        json_schema_extra=drawn("Task", "--pooling", advanced=True),
    )
    jinja: bool | None = Field(
        None,
        title="Jinja templates",
        description="Render chats with the model's own Jinja template; tools need it.",
        json_schema_extra=drawn("Chat", "--jinja", off="--no-jinja", advanced=True),
    )
    chat_template: str | None = Field(
        None,
        pattern=r"^[a-z0-9][a-z0-9._-]{0,63}$",
        title="Chat template",
        description="Name of a built-in chat template, for example chatml, for a model that brings none.",
        json_schema_extra=drawn("Chat", "--chat-template"),
    )
    reasoning_format: Literal["none", "auto", "deepseek", "deepseek-legacy"] | None = Field(
        None,
        title="Reasoning format",
        description="Whether thoughts are taken out of the answer into a field of their own.",
        json_schema_extra=drawn("Chat", "--reasoning-format", advanced=True),
    )
    rope_scaling: Literal["none", "linear", "yarn"] | None = Field(
        None,
        title="RoPE scaling",
        description="How to stretch positions beyond the context the model was trained for.",
        json_schema_extra=drawn("Model", "--rope-scaling", advanced=True),
    )
    rope_scale: float | None = Field(
        None,
        gt=0,
        le=1024,
        title="RoPE factor",
        description="By how much the context is stretched.",
        json_schema_extra=drawn("Model", "--rope-scale", advanced=True),
    )
    rope_freq_base: float | None = Field(
        None,
        ge=0,
        title="RoPE base frequency",
        description="Replaces the base frequency that the model's file names.",
        json_schema_extra=drawn("Model", "--rope-freq-base", advanced=True),
    )
    verbosity: Annotated[int, Field(ge=0, le=5)] | None = Field(
        None,
        title="Log level",
        description="How much the engine logs: usually 3. 4 names its buffers at the start, from which the next "
        "estimate learns, and writes dozens of lines for each request, hundreds once many prompts are kept.",
        json_schema_extra=drawn("More", "--verbosity", short=("-lv", "--log-verbosity"), advanced=True),
    )
    extra_args: ExtraArgs = ()

    @field_validator("tensor_split")
    @classmethod
    def _shares_name_every_gpu(cls, shares: tuple[float, ...], info: ValidationInfo) -> tuple[float, ...]:
        gpus = (info.context or {}).get("gpus")
        if any(share < 0 for share in shares) or (shares and sum(shares) == 0):
            raise ValueError("Shares of GPUs are proportions: none below 0, and not all of them 0.")
        if shares and gpus is not None and len(shares) != gpus:
            raise ValueError(f"{len(shares)} shares for {gpus} GPUs. Give each GPU one share, or leave it empty.")
        return shares

    @model_validator(mode="after")
    def _agrees_with_itself(self) -> Self:
        if self.cache_type_v not in UNQUANTIZED and self.flash_attn == "off":
            raise ValueError(
                f"V cache type {self.cache_type_v} needs flash attention, which is off. "
                "Turn flash attention on, or choose f16 for the V cache."
            )
        if self.embeddings and self.reranking:
            raise ValueError("A server gives embeddings or reranks, not both. Turn one of them off.")
        return self
