"""What a model will take, per GPU and on the host, term by term, before anything starts. Pure arithmetic."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from math import ceil

from cortex.calculator.fractions import usual_fraction
from cortex.calculator.gguf.families import COMPARED
from cortex.calculator.llamacpp.plan import DevicePlan, LlamaPlan, plan
from cortex.calculator.serving import concurrency, request_bytes, tokens_held
from cortex.calculator.shape import Shape
from cortex.calculator.weights import lora_bytes, rank_weights, shrinks, whole_rank
from engines.habits import LlamaOptions, ServeOptions

MIB, GIB = 1 << 20, 1 << 30
DEFAULT_PROMPT_CACHE = 8192 * MIB


@dataclass(frozen=True, slots=True)
class Card:
    """A GPU: bytes in ``total`` and how many are ``free`` now (None: all)."""

    total: int
    free: int | None = None
    name: str = ""

    @property
    def available(self) -> int:
        return self.total if self.free is None else self.free


@dataclass(frozen=True, slots=True)
class Term:
    """One part of the need in bytes, with its range and where the figure comes from."""

    name: str
    low: int
    likely: int
    high: int
    reason: str


@dataclass(frozen=True, slots=True)
class Need:
    """All terms of one GPU, or of the host."""

    terms: tuple[Term, ...] = ()

    @property
    def low(self) -> int:
        return sum(term.low for term in self.terms)

    @property
    def likely(self) -> int:
        return sum(term.likely for term in self.terms)

    @property
    def high(self) -> int:
        return sum(term.high for term in self.terms)


@dataclass(frozen=True, slots=True)
class Yields:
    """What the budget of the card that has least buys: ``tokens`` of cache, ``users`` of full context at once."""

    cache: int
    tokens: int
    users: float


@dataclass(frozen=True, slots=True)
class Estimate:
    """The answer. ``gpus`` are least needs to start, one per card used; ``yields``, for engines that fill a budget."""

    engine: str
    gpus: tuple[Need, ...]
    host: Need
    disk: int
    yields: Yields | None = None
    assumptions: tuple[str, ...] = ()

    def fits(self, cards: Sequence[Card]) -> bool:
        """Whether the likely need of every GPU is free on its card."""
        return len(cards) >= len(self.gpus) and all(
            need.likely <= card.available for need, card in zip(self.gpus, cards, strict=False)
        )


def exact(name: str, size: int, reason: str) -> Term:
    return Term(name, size, size, size, reason)


def ranged(name: str, likely: float, low: float, high: float, reason: str) -> Term:
    return Term(name, int(min(low, likely)), int(likely), ceil(max(high, likely)), reason)


def estimate(shape: Shape, options: LlamaOptions | ServeOptions, cards: Sequence[Card]) -> Estimate:
    """What ``shape`` needs under ``options`` on ``cards`` (none: the processor only). Bytes throughout."""
    if isinstance(options, LlamaOptions):
        return _llamacpp(shape, options, cards)
    return _budgeted(shape, options, cards)


def _llamacpp(shape: Shape, options: LlamaOptions, cards: Sequence[Card]) -> Estimate:
    """Without shares llama.cpp splits by what each card has free."""
    if not any(options.split):
        options = replace(options, split=tuple(float(card.available) for card in cards))
    planned: LlamaPlan = plan(shape, options, len(cards))
    extras = _file_terms(options)
    compared = shape.family in COMPARED
    gpus = tuple(
        Need((*_buffers(each, compared), *(extras if index == 0 else ()), OVERHEAD))
        for index, each in enumerate(planned.devices)
    )
    return Estimate(
        engine="llamacpp",
        gpus=gpus,
        host=Need((*_buffers(planned.host, compared), *_serving_extras(shape, options))),
        disk=shape.file_bytes + options.projector_bytes + options.lora_bytes + options.draft_bytes,
        assumptions=shape.assumptions,
    )


OVERHEAD = ranged(
    "runtime", 220 * MIB, 150 * MIB, 320 * MIB, "CUDA context and cuBLAS, outside every buffer llama.cpp prints"
)


def _buffers(planned: DevicePlan, compared: bool) -> tuple[Term, ...]:
    """The buffers of one device; graphs that were never compared with llama.cpp's own get a tenth on top."""
    cache = planned.context - planned.state
    compute = planned.compute
    peak = ranged(
        "compute", compute, 0.95 * compute, 1.05 * compute + 16 * MIB, "peak of the graph as ggml allocates it"
    )
    if not compared:
        peak = ranged("compute", 1.1 * compute, 0.9 * compute, 1.5 * compute + 64 * MIB,
                      "peak of a graph like other families', and a tenth: this one was never compared")  # fmt: skip
    terms = (
        exact("weights", planned.model, "the tensors llama.cpp places here, from the file's own table"),
        exact("kv_cache", cache, "rows of the cache types x cells x streams of the layers placed here"),
        exact("state", planned.state, "recurrent state, 32-bit, one per slot"),
        peak,
    )
    return tuple(term for term in terms if term.high > 16 * MIB or term.likely)


def _file_terms(options: LlamaOptions) -> tuple[Term, ...]:
    """What other files of the same server add to its first card."""
    terms = (
        exact("lora", options.lora_bytes, "adapters are loaded whole, beside the weights they change"),
        exact("projector", options.projector_bytes, "the image projector's file"),
        ranged("projector_compute", 250 * MIB, 200 * MIB, 600 * MIB if options.flash else 4.6 * GIB,
               "one picture through the projector; far more without flash attention"),
        ranged("draft_model", 1.15 * options.draft_bytes, options.draft_bytes, 1.5 * options.draft_bytes + 512 * MIB,
               "a draft model's file, and as a guess its cache and buffers"),
    )  # fmt: skip
    lora, projector, picture, draft = terms
    wanted = ((lora, options.lora_bytes), (projector, options.projector_bytes), (picture, options.projector_bytes),
              (draft, options.draft_bytes))  # fmt: skip
    return tuple(term for term, size in wanted if size)


def _serving_extras(shape: Shape, options: LlamaOptions) -> tuple[Term, ...]:
    outputs = options.slots * (shape.vocab + shape.hidden) * 4
    return (
        exact("outputs", outputs, "logits and embeddings of one token per slot"),
        ranged("prompt_cache", 0, 0, _prompt_cache(options), "llama-server keeps finished prompts in RAM, up to here"),
    )


def _prompt_cache(options: LlamaOptions) -> int:
    """The most RAM for finished prompts; without a limit, as much as the engine takes by itself."""
    if options.prompt_cache is None or options.prompt_cache < 0:
        return DEFAULT_PROMPT_CACHE
    return options.prompt_cache * MIB


def _budgeted(shape: Shape, options: ServeOptions, cards: Sequence[Card]) -> Estimate:
    ranks = max(1, options.tensor) * max(1, options.pipeline)
    terms = fixed_terms(shape, options)
    least = request_bytes(shape, options, options.length(shape))
    cache = exact("kv_cache", least, f"one request of {options.length(shape):,} tokens must fit on every rank")
    need = Need((*terms, *((cache,) if least else ())))
    used = list(cards[:ranks])
    return Estimate(
        engine=options.engine,
        gpus=(need,) * ranks,
        host=Need(tuple(_beside(shape, options, ranks))),
        disk=shape.file_bytes or shape.weight_bytes,
        yields=_yields(shape, options, used, terms) if used else None,
        assumptions=(*shape.assumptions, *_uncounted(shape, options)),
    )


def _beside(shape: Shape, options: ServeOptions, ranks: int) -> Iterator[Term]:
    """What an engine that fills cards takes of the host's own memory."""
    yield ranged("process", 3 * GIB, 2 * GIB, 6 * GIB, "Python, tokenizers and pinned staging per engine")
    away = min(options.offloaded, whole_rank(shape, options)) * ranks
    if away:
        yield exact("offloaded", away, "weights kept in host memory, pinned, of every rank")
    if options.swapped:
        yield exact("swapped", options.swapped, "cache kept in host memory, of all ranks together")


def _uncounted(shape: Shape, options: ServeOptions) -> Iterator[str]:
    """What no formula is known for, by name."""
    if shape.tower_bytes and not options.language_only:
        yield "The peak of encoding pictures or sound is not computed: 0.5 to 2 GiB were seen, once 36 GiB."
    if options.weight_bits and shrinks(shape, options) is None:
        yield f"The files' weights are {shape.quantization or 'quantized'} already: no quantization at the start."
    if options.engine != "vllm" and (shape.recurrent or shape.window):
        yield f"How {options.engine} divides its cache among windows and states is left to it: counted as vLLM does."
    if options.pipeline > 1:
        yield "Every card is counted as the fullest pipeline stage."


def fixed_terms(shape: Shape, options: ServeOptions) -> tuple[Term, ...]:
    """Everything on one rank that does not grow with tokens kept."""
    weights = rank_weights(shape, options)
    activation = activation_bytes(shape, options)
    graphs = graph_bytes(shape, options)
    ranks = max(1, options.tensor)
    terms = (
        ranged("weights", weights, 0.985 * weights, 1.02 * weights, "bytes in the files' headers, split over ranks"),
        ranged("activation", activation, 0.5 * activation, 2.0 * activation, "peak of a full batch, profiled at start"),
        ranged("cuda_graphs", graphs, 0.3 * graphs, 2.5 * graphs, "captured graphs; none when eager"),
        ranged("runtime", (0.2 + 0.15 * (ranks > 1)) * GIB, 0.05 * GIB, (0.4 + 0.6 * (ranks > 1)) * GIB,
               "libraries and communication buffers"),
        exact("lora", lora_bytes(shape, options), "room reserved for adapters at their highest rank"),
    )  # fmt: skip
    return tuple(term for term in terms if term.high)


def activation_bytes(shape: Shape, options: ServeOptions) -> float:
    """Peak of a full batch on a rank, a model with margins: the widest layer or the sampler's logits."""
    ranks, tokens = max(1, options.tensor), options.batched_tokens
    ff = max((max(layer.ff, layer.experts_used * layer.expert_ff) for layer in shape.trunk), default=0)
    through = tokens * (2 * ff / ranks + 4 * shape.hidden) * 2
    logits = min(options.users, tokens) * shape.vocab / ranks * 4 * 4
    return max(through, logits) + 0.25 * GIB


def graph_bytes(shape: Shape, options: ServeOptions) -> float:
    if options.eager:
        return 0.0
    return (3.5 if options.experts_apart else 0.5) * GIB


def _yields(shape: Shape, options: ServeOptions, cards: list[Card], terms: Sequence[Term]) -> Yields:
    budget = max(0, min(cache_budget(options, card, terms) for card in cards))
    return Yields(budget, tokens_held(shape, options, budget), concurrency(shape, options, budget))


def cache_budget(options: ServeOptions, card: Card, terms: Sequence[Term]) -> int:
    """Bytes left for the cache on a card, as the engine reckons; below zero where not even the rest fits."""
    if options.cache_bytes:
        return options.cache_bytes
    return BUDGETS[options.engine](options, card, {term.name: term.likely for term in terms})


def _of_total(options: ServeOptions, card: Card, taken: Mapping[str, int]) -> int:
    """vLLM: a share of all the card's memory, whatever else lies there."""
    return int(card.total * options.fraction) - sum(taken.values())


def _of_rest(options: ServeOptions, card: Card, taken: Mapping[str, int]) -> int:
    """SGLang: what weights leave free, less the part of the card that is kept for activations and graphs."""
    fraction = options.fraction or usual_fraction(options, card.total)
    peaks = sum(taken.get(name, 0) for name in PEAKS)
    return card.available - (sum(taken.values()) - peaks) - max(peaks, int(card.total * (1 - fraction)))


def _of_free(options: ServeOptions, card: Card, taken: Mapping[str, int]) -> int:
    """TGI: nine tenths of what is still free of its share when it has warmed up."""
    left = min(card.available, int(card.total * options.fraction)) - sum(taken.values())
    return int(WIGGLE_ROOM * left) if left > 0 else left


PEAKS = ("activation", "cuda_graphs")
WIGGLE_ROOM = 0.9
Budget = Callable[[ServeOptions, Card, Mapping[str, int]], int]
BUDGETS: dict[str, Budget] = {"vllm": _of_total, "sglang": _of_rest, "tgi": _of_free}
