"""llama.cpp: GGUF files on GPUs, on the CPU, or on both."""

from collections.abc import Iterator, Mapping, Sequence
from itertools import pairwise
from typing import Annotated, Literal, Self

from pydantic import Field, ValidationInfo, field_validator, model_validator

from engines import argv
from engines.argv import Arguments, ExtraArgs, drawn
from engines.contract import (
    MODELS,
    PULSE_SECONDS,
    ContainerSpec,
    Diagnosis,
    Engine,
    Launch,
    Mount,
    Probe,
    start_deadline,
)
from engines.diagnosis import judge
from engines.habits import LlamaOptions, MemoryHabits
from engines.overrides import experts_moved
from engines.symptoms import LLAMACPP

OFFICIAL_IMAGE = "ghcr.io/ggml-org/llama.cpp:server"
OFFICIAL_CUDA_IMAGE = "ghcr.io/ggml-org/llama.cpp:server-cuda"
ALL_LAYERS = 999
AUTO_SLOTS = 4
# Answered by the loop that computes, between two batches, however many requests wait; /health is not.
PULSE = Probe(path="/metrics", any_answer=True, timeout=PULSE_SECONDS)

Layers = Annotated[int, Field(ge=0, le=9999)]
Tokens = Annotated[int, Field(ge=1, le=65_536)]
CacheType = Literal["f32", "f16", "bf16", "q8_0", "q4_0", "q4_1", "iq4_nl", "q5_0", "q5_1"]
UNQUANTIZED = frozenset({"f32", "f16", "bf16", None})
OPTION_OF = {
    "key_type": "cache_type_k", "value_type": "cache_type_v", "ubatch": "ubatch_size", "gpu_layers": "n_gpu_layers",
    "expert_layers_on_host": "n_cpu_moe",
}  # fmt: skip

FURTHER_FILES = {
    "projector_bytes": ("--mmproj", "-mm"),
    "draft_bytes": ("--model-draft", "-md", "--spec-draft-model"),
}
OVERRIDES = ("--override-tensor", "-ot")


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


class LlamaCpp(Engine):
    """llama-server in a container, one model each.

    ``-c`` is the total over all slots: context x users, or one context when the slots share one cache.
    """

    name = "llamacpp"
    title = "llama.cpp"
    summary = "GGUF files on GPUs, on the CPU, or split between them. A few users at once."
    Options = LlamaCppOptions
    image = OFFICIAL_IMAGE
    formats = frozenset({"gguf"})
    tasks = frozenset({"generate", "embed", "rerank"})
    milestones = {
        "weights": r"llama_context: constructing llama_context",  # told by some versions and verbosities alone
        "cache": r"llama_kv_cache\w*: size =|initializing,? (?:slots, )?n_slots = ",
    }

    def image_for(self, *, gpus: bool) -> str:
        """The official builds; docker-images/llamacpp-server makes our own, for the cards in use."""
        return OFFICIAL_CUDA_IMAGE if gpus else OFFICIAL_IMAGE

    def spec(self, launch: Launch) -> ContainerSpec:
        """The container of llama-server; the official image unless the launch names another, such as our own."""
        options = LlamaCppOptions.model_validate(launch.options, context={"gpus": len(launch.gpus)})
        spec = ContainerSpec(
            image=launch.image or self.image_for(gpus=bool(launch.gpus)),
            argv=(),
            env={"NVIDIA_DRIVER_CAPABILITIES": "compute,utility"} if launch.gpus else {},
            mounts=(Mount(source=launch.host_models, target=str(MODELS)),),
            gpus=launch.gpus,
            pulse=PULSE,
            start_deadline=start_deadline(launch.files.size),
        )
        return spec.model_copy(update={"argv": (*_managed(launch, options, spec.port), *options.extra_args)})

    def memory(self, launch: Launch) -> MemoryHabits:
        """llama-server plans all its buffers before it answers, and takes no more."""
        options = LlamaCppOptions.model_validate(launch.options, context={"gpus": len(launch.gpus)})
        files = {habit: _values_of(options.extra_args, *flags) for habit, flags in FURTHER_FILES.items()}
        return MemoryHabits(
            _habits(launch, options),
            files={habit: paths for habit, paths in files.items() if paths},
            assumptions=tuple(_left_open(launch, options)),
        )

    def options_for(self, habits: Mapping[str, object]) -> dict[str, object]:
        """Cache types, batch and layers by llama-server's names."""
        options = {OPTION_OF[habit]: value for habit, value in habits.items() if habit in OPTION_OF}
        return options | ({"flash_attn": "on" if habits["flash"] else "off"} if "flash" in habits else {})

    def diagnose(self, log: Sequence[str], exit_code: int | None) -> Diagnosis | None:
        """Why llama-server ended."""
        return judge(log, exit_code, LLAMACPP)


def _managed(launch: Launch, options: LlamaCppOptions, port: int) -> list[str]:
    words = ["--model", str(launch.files.path), "--alias", launch.served_name]
    words += ["--host", "0.0.0.0", "--port", str(port), "--metrics", "--offline", "--no-webui"]  # noqa: S104
    words += _slots(launch, options)
    words += _defaults(launch, options).argv()
    return words


def _slots(launch: Launch, options: LlamaCppOptions) -> list[str]:
    words: list[str] = []
    if launch.context is not None:
        share_one = options.kv_unified or launch.users is None
        words += ["--ctx-size", str(launch.context if share_one else launch.context * (launch.users or 1))]
    if launch.users is not None:
        words += ["--parallel", str(launch.users)]
    return words


def _defaults(launch: Launch, options: LlamaCppOptions) -> LlamaCppOptions:
    """The options with what Cortex chooses where people chose nothing."""
    chosen: dict[str, object] = {}
    if options.threads is None:
        chosen["threads"] = max(1, launch.cores - 2)
    if options.n_gpu_layers is None and launch.gpus:
        chosen["n_gpu_layers"] = ALL_LAYERS
    if options.split_mode != "none":
        chosen["tensor_split"] = _split(options, len(launch.gpus))
    return options.model_copy(update=chosen)


def _habits(launch: Launch, options: LlamaCppOptions) -> LlamaOptions:
    """Without users llama-server takes four slots that share one cache."""
    slots = launch.users or AUTO_SLOTS
    unified = launch.users is None or bool(options.kv_unified)
    context = launch.context or 0
    return LlamaOptions(
        context=context if unified else context * slots,
        slots=slots,
        batch=options.batch_size or 2048,
        ubatch=options.ubatch_size or 512,
        key_type=options.cache_type_k or "f16",
        value_type=options.cache_type_v or "f16",
        flash=options.flash_attn != "off",
        flash_forced=options.flash_attn == "on",
        gpu_layers=options.n_gpu_layers if launch.gpus else 0,
        split=_split(options, len(launch.gpus)),
        unified=unified,
        cache_on_gpu=options.kv_offload is not False,
        whole_window=options.swa_full,
        expert_layers_on_host=max(options.n_cpu_moe or 0, _overridden(options) or 0),
        outputs=None if options.embeddings or options.reranking else slots,
        lends_weights=bool(launch.gpus),
        mixed_inputs=True,
        prompt_cache=options.cache_ram,
    )


def _overridden(options: LlamaCppOptions) -> int | None:
    """Layers whose experts are left to the processor by name; None when that cannot be told."""
    values = _values_of(options.extra_args, *OVERRIDES)
    return experts_moved(values) if values else 0


def _split(options: LlamaCppOptions, gpus: int) -> tuple[float, ...]:
    """Alike where nothing is said: left to itself the engine splits by what is free at that moment."""
    if options.split_mode == "none" and gpus > 1:
        main = options.main_gpu or 0
        return tuple(1.0 if gpu == main else 0.0 for gpu in range(gpus))
    return options.tensor_split or ((1.0,) * gpus if gpus > 1 else ())


def _left_open(launch: Launch, options: LlamaCppOptions) -> Iterator[str]:
    if launch.context is None:
        yield "No context is set: it is taken as the model was trained. Set one to need less."
    if launch.users is None:
        yield f"No users are set: the engine takes {AUTO_SLOTS} slots that share one cache."
    if len(launch.gpus) > 1 and options.split_mode in ("row", "tensor"):
        yield (
            f"--split-mode {options.split_mode} cannot be foreseen per GPU: counted as if split by layers, "
            "whose sum is right while the main GPU holds more than its part."
        )
    if _overridden(options) is None:
        yield (
            "--override-tensor moves more than whole layers of experts: it is not counted. "
            "What it takes off a GPU is foreseen there."
        )
    if _values_of(options.extra_args, *FURTHER_FILES["draft_bytes"]):
        yield "The cache and the buffers of the --model-draft are a guess from the size of its file."


def _values_of(arguments: Sequence[str], *flags: str) -> tuple[str, ...]:
    """What follows these flags among the extra arguments."""
    apart = [
        word for argument in arguments for word in (argument.split("=", 1) if argument.startswith("--") else [argument])
    ]
    return tuple(value for flag, value in pairwise(apart) if flag in flags)
