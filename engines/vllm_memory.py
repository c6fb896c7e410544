"""How vLLM 0.32 uses memory for one launch, as far as its options and further arguments say."""

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

from engines.contract import MODELS, Launch
from engines.habits import MemoryHabits, ServeOptions
from engines.vllm_options import VllmOptions

GIB = 1024**3
SEQUENCES, BATCHED_TOKENS, BLOCK = 256, 8192, 16
WIDE = ("float", "float32")
CPU_SEQUENCES, CPU_BATCHED_TOKENS, CPU_BLOCK, CPU_CACHE_GIB = 128, 2048, 128, 4
# bits of a linear weight, scales included, once vLLM has quantized it at the start; other methods read finished files
ONLINE_BITS = {
    "fp8": 8.0, "fp8_per_tensor": 8.0, "fp8_per_block": 8.0, "fp8_per_channel": 8.0,
    "int8_per_channel_weight_only": 8.0, "mxfp8": 8.25, "nvfp4_per_token": 4.5,
}  # fmt: skip
UNCOUNTED = {
    "--num-gpu-blocks-override": "it replaces the computed number of cache blocks",
    "--decode-context-parallel-size": "it divides the cache by tokens",
    "-dcp": "it divides the cache by tokens",
    "--prefill-context-parallel-size": "it divides prompts over GPUs",
    "--disable-hybrid-kv-cache-manager": "windows are then kept whole",
    "--limit-mm-per-prompt": "how much encoding pictures takes is not known",
    "--max-cpu-loras": "adapters in host memory are not counted",
    "--offload-group-size": "whole layers are then kept in host memory",
    "--compilation-config": "its graphs may take more or less",
    "-O": "its graphs may take more or less",
}
COUNTED = ("--speculative-config", "--enable-expert-parallel", "-ep", "--language-model-only", "--kv-offloading-size")


@dataclass(frozen=True)
class Draft:
    """What a speculative configuration says: how many tokens ahead, by which method, with which files."""

    tokens: int = 0
    method: str = ""
    path: str = ""

    @property
    def layers(self) -> int:
        """Attention layers of a head that guesses with the model's own widths."""
        return int(self.method in ("mtp", "eagle", "eagle3"))


def habits_of(launch: Launch, options: VllmOptions) -> MemoryHabits:
    """Everything of a launch that the calculator can count, and by name what it cannot."""
    written = _flags(options.extra_args)
    draft = _draft(written.get("--speculative-config", ""))
    found = _with_extra(_habits(launch, options), written, draft)
    own = draft.path.startswith(f"{MODELS}/")
    return MemoryHabits(
        found,
        files={"draft_bytes": (draft.path,)} if own else {},
        assumptions=(*_left_open(launch, options), *_not_looked_into(written, draft)),
        draft=draft.path if own and not draft.layers else "",
    )


def cpu_cache(options: VllmOptions) -> int:
    """Bytes of cache on the processor. vLLM itself would take 90 % of the host's memory."""
    return options.kv_cache_memory_bytes or (options.cpu_kv_cache_gib or CPU_CACHE_GIB) * GIB


def _habits(launch: Launch, options: VllmOptions) -> ServeOptions:
    pipeline = options.pipeline_parallel_size or 1
    on_gpus = bool(launch.gpus)
    context = launch.context or 0
    batched = options.max_num_batched_tokens or (BATCHED_TOKENS if on_gpus else CPU_BATCHED_TOKENS)
    return ServeOptions(
        engine="vllm",
        context=context,
        users=options.max_num_seqs or launch.users or (SEQUENCES if on_gpus else CPU_SEQUENCES),
        tensor=options.tensor_parallel_size or max(1, len(launch.gpus) // pipeline),
        pipeline=pipeline,
        fraction=options.gpu_memory_utilization,
        cache_type=options.kv_cache_dtype or ("float32" if options.dtype in WIDE else "auto"),
        block=options.block_size or (BLOCK if on_gpus else CPU_BLOCK),
        batched_tokens=max(batched, context) if options.enable_chunked_prefill is False else batched,
        eager=options.enforce_eager or not on_gpus,
        loras=(options.max_loras or 1) if options.enable_lora else 0,
        lora_rank=options.max_lora_rank or 16,
        float_bytes=4 if options.dtype in WIDE else 2,
        weight_bits=ONLINE_BITS.get(options.quantization or "", 0.0),
        cache_bytes=(options.kv_cache_memory_bytes or 0) if on_gpus else cpu_cache(options),
        offloaded=int((options.cpu_offload_gb or 0) * GIB) if on_gpus else 0,
        # the next step is prepared while one runs, and every stage of a pipeline has its own
        in_flight=max(2, pipeline) if on_gpus else 1,
        state_pages=1 if options.enable_prefix_caching is False else 0,
    )


def _with_extra(habits: ServeOptions, written: Mapping[str, str], draft: Draft) -> ServeOptions:
    return replace(
        habits,
        experts_apart=bool({"--enable-expert-parallel", "-ep"} & written.keys()),
        language_only="--language-model-only" in written,
        swapped=int(_number(written.get("--kv-offloading-size", "")) * GIB),
        draft_tokens=draft.tokens,
        draft_layers=draft.layers,
    )


def _flags(arguments: Sequence[str]) -> dict[str, str]:
    """Further arguments as names and values, in either spelling."""
    found: dict[str, str] = {}
    name = ""
    for argument in arguments:
        if argument.startswith("-") and not argument[1:2].isdigit():
            name, _, value = argument.partition("=")
            name = name.replace("_", "-")
            found[name] = value
        elif name:
            found[name] = f"{found[name]} {argument}".strip()
    return found


def _draft(text: str) -> Draft:
    try:
        given = json.loads(text)
    except ValueError:
        return Draft()
    if not isinstance(given, dict):
        return Draft()
    tokens = given.get("num_speculative_tokens", 0)
    told, path = str(given.get("method", "")), str(given.get("model", ""))
    method = told or ("draft_model" if path else "")
    return Draft(tokens if isinstance(tokens, int) and 0 < tokens < 1024 else 0, method, path)


def _number(text: str) -> float:
    try:
        return min(max(0.0, float(text)), 1e6)
    except ValueError:
        return 0.0


def _left_open(launch: Launch, options: VllmOptions) -> Iterator[str]:
    if launch.context is None:
        yield "No context is set: one request may be as long as the model was trained for. Set one to need less."
    if launch.users is None and options.max_num_seqs is None:
        most = SEQUENCES if launch.gpus else CPU_SEQUENCES
        yield f"No users are set: the engine takes up to {most} requests at once."
    if launch.gpus and options.max_num_batched_tokens is None:
        yield (
            f"No tokens in a step are set: counted as {BATCHED_TOKENS:,}. vLLM takes 2,048 on cards below 70 GiB and "
            "16,384 from 160 GiB on."
        )
    if options.quantization is not None and options.quantization not in ONLINE_BITS:
        yield f"Weights are counted as the files hold them, whatever {options.quantization} makes of them at the start."


def _not_looked_into(written: Mapping[str, str], draft: Draft) -> Iterator[str]:
    for flag, why in UNCOUNTED.items():
        if flag in written:
            yield f"{flag} is not counted: {why}."
    if "--speculative-config" in written and not draft.tokens:
        yield "--speculative-config is not counted: it is no JSON with num_speculative_tokens."
    if draft.path and not draft.path.startswith(f"{MODELS}/"):
        yield f"The draft model {draft.path} is not counted: only files below {MODELS} are."
    rest = sorted(flag for flag in written if flag not in UNCOUNTED and flag not in COUNTED)
    if rest:
        yield f"Not looked into, though it may need memory: {', '.join(rest)}."
