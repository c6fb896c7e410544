"""llama.cpp: GGUF files on GPUs, on the CPU, or on both."""

from collections.abc import Iterator, Mapping, Sequence
from itertools import pairwise

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
from engines.llamacpp_options import LlamaCppOptions
from engines.overrides import experts_moved
from engines.symptoms import LLAMACPP

OFFICIAL_IMAGE = "ghcr.io/ggml-org/llama.cpp:server"
OFFICIAL_CUDA_IMAGE = "ghcr.io/ggml-org/llama.cpp:server-cuda"
ALL_LAYERS = 999
AUTO_SLOTS = 4
# Answered by the loop that computes, between two batches, however many requests wait; /health is not.
PULSE = Probe(path="/metrics", any_answer=True, timeout=PULSE_SECONDS)

OPTION_OF = {
    "key_type": "cache_type_k", "value_type": "cache_type_v", "ubatch": "ubatch_size", "gpu_layers": "n_gpu_layers",
    "expert_layers_on_host": "n_cpu_moe",
}  # fmt: skip

FURTHER_FILES = {
    "projector_bytes": ("--mmproj", "-mm"),
    "draft_bytes": ("--model-draft", "-md", "--spec-draft-model"),
}
OVERRIDES = ("--override-tensor", "-ot")


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
