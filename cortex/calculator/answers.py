"""The questions people ask of an estimate: how long, how many, what would make it fit."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from math import ceil

from cortex.calculator.memory import Card, Estimate, cache_budget, estimate, fixed_terms
from cortex.calculator.serving import request_bytes
from cortex.calculator.shape import Shape
from cortex.calculator.weights import shrinks
from engines.habits import LlamaOptions, ServeOptions

Options = LlamaOptions | ServeOptions
GIB = 1 << 30
STEP = 256  # contexts are offered in multiples of this
MOST_USERS = 4096
HIGHEST_FRACTION = 0.95  # what is left keeps the desktop, the driver and its own surprises alive


@dataclass(frozen=True, slots=True)
class Change:
    """One way to make a model fit: what to change, what it costs people, and the estimate once applied.

    ``fits`` is computed, not hoped for. Lower ``rank`` hurts less. ``cards`` is how many it then uses.
    """

    title: str
    rank: float
    options: Options
    cards: int
    estimate: Estimate
    fits: bool


def wanted(options: Options, context: int, users: int) -> Options:
    """The options with ``context`` tokens for each of ``users`` at once; for all together where they share a cache."""
    if isinstance(options, LlamaOptions):
        return replace(options, context=context if options.unified else context * users, slots=users)
    return replace(options, context=context, users=users)


def holds(shape: Shape, options: Options, cards: Sequence[Card], context: int, users: int, memory: int = 0) -> bool:
    """Whether ``users`` requests of ``context`` tokens fit at once: on the cards, or in ``memory`` bytes of a host."""
    options = wanted(options, context, users)
    if not cards:
        return _held_by_host(shape, options, context, users, memory)
    if isinstance(options, LlamaOptions):
        return estimate(shape, options, cards).fits(cards)
    terms = fixed_terms(shape, options)
    ranks = options.tensor * options.pipeline
    if len(cards) < ranks:
        return False
    budget = min(cache_budget(options, card, terms) for card in cards[:ranks])
    return users * request_bytes(shape, options, context) <= budget


def _held_by_host(shape: Shape, options: Options, context: int, users: int, memory: int) -> bool:
    """The same on the processor, where an engine that fills a budget has a cache of a size that was chosen."""
    if isinstance(options, LlamaOptions):
        return estimate(shape, options, ()).host.likely <= memory
    return users * request_bytes(shape, options, context) <= options.cache_bytes


def longest_context(shape: Shape, options: Options, cards: Sequence[Card], users: int = 1, memory: int = 0) -> int:
    """The most tokens each of ``users`` can have, a multiple of 256, at most as trained; 0 when not even 256 fit."""
    most = max(shape.context // STEP, 1)
    return STEP * _largest(most, lambda steps: holds(shape, options, cards, STEP * steps, users, memory))


def most_users(shape: Shape, options: Options, cards: Sequence[Card], context: int, memory: int = 0) -> int:
    """How many can have ``context`` tokens each at once; 0 when not even one can."""
    return _largest(MOST_USERS, lambda users: holds(shape, options, cards, context, users, memory))


def _largest(most: int, fits: Callable[[int], bool]) -> int:
    low, high = 0, most
    while low < high:
        middle = (low + high + 1) // 2
        low, high = (middle, high) if fits(middle) else (low, middle - 1)
    return low


def best_fraction(shape: Shape, options: ServeOptions, card: Card, context: int, users: int) -> float | None:
    """The smallest share of ``card`` (a multiple of 0.01) that serves ``users`` at ``context``; None when none does."""
    options = replace(options, context=context, users=users)
    fixed = sum(term.likely for term in fixed_terms(shape, options))
    need = fixed + users * request_bytes(shape, options, context)
    if need > HIGHEST_FRACTION * card.total:
        return None
    return min(HIGHEST_FRACTION, ceil(100 * need / card.total) / 100)


def changes(shape: Shape, options: Options, cards: Sequence[Card]) -> list[Change]:
    """Ways to make it fit, computed, those that do first, the least painful first among them."""
    found = [_judged(shape, cards, *each) for each in _candidates(shape, options, cards)]
    return sorted(found, key=lambda change: (not change.fits, change.rank, -change.estimate.disk))


def _judged(shape: Shape, cards: Sequence[Card], title: str, rank: float, options: Options, use: int) -> Change:
    used = cards[:use]
    answer = estimate(shape, options, used)
    fits = answer.fits(used)
    if isinstance(options, ServeOptions):
        fits = fits and holds(shape, options, used, options.length(shape), 1)
    return Change(title, rank, options, use, answer, fits)


Candidate = tuple[str, float, Options, int]


def _candidates(shape: Shape, options: Options, cards: Sequence[Card]) -> Iterator[Candidate]:
    yield from _with_context(shape, options, cards)
    if isinstance(options, LlamaOptions):
        yield from _llama_candidates(shape, options, cards)
    else:
        yield from _served_candidates(shape, options, cards)


def _with_context(shape: Shape, options: Options, cards: Sequence[Card]) -> Iterator[Candidate]:
    users = options.slots if isinstance(options, LlamaOptions) else 1
    longest = longest_context(shape, options, cards, users)
    if longest:
        count = len(cards) if isinstance(options, LlamaOptions) else options.tensor * options.pipeline
        shorter = wanted(options, longest, users)
        if isinstance(shorter, ServeOptions) and isinstance(options, ServeOptions):
            shorter = replace(shorter, users=options.users)
        yield f"Shorten the context to {longest:,} tokens", 4, shorter, count


def _llama_candidates(shape: Shape, options: LlamaOptions, cards: Sequence[Card]) -> Iterator[Candidate]:
    count = len(cards)
    if options.flash:
        for rank, kind in ((1, "q8_0"), (3, "q4_0")):
            if options.key_type == "f16":
                yield f"Keep the cache in {kind}", rank, replace(options, key_type=kind, value_type=kind), count
    else:
        yield "Turn flash attention on", 0, replace(options, flash=True), count
    if options.ubatch > 128:
        yield "Read prompts in smaller batches (128)", 2, replace(options, ubatch=128), count
    kept, layers = most_layers(shape, options, cards)
    if 0 < kept < layers:
        yield f"Keep {kept} of {layers} layers on the GPU", 6, replace(options, gpu_layers=kept), count
    if any(layer.experts for layer in shape.layers):
        apart = replace(options, expert_layers_on_host=len(shape.layers))
        yield "Keep the experts in host memory", 5, apart, count


def most_layers(shape: Shape, options: LlamaOptions, cards: Sequence[Card]) -> tuple[int, int]:
    """How many layers fit on the cards, and how many there are, the output counted as one."""
    layers = len(shape.layers) + 1
    return (_largest(layers, lambda number: _fits_layers(shape, options, cards, number)) if cards else 0), layers


def _fits_layers(shape: Shape, options: LlamaOptions, cards: Sequence[Card], number: int) -> bool:
    return estimate(shape, replace(options, gpu_layers=number), cards).fits(cards)


def _on_processor(shape: Shape, options: ServeOptions) -> Iterator[Candidate]:
    needed = -(-request_bytes(shape, options, options.length(shape)) // GIB)
    if needed:
        yield f"Keep {needed} GiB of cache", 0, replace(options, cache_bytes=needed * GIB), 0


def _served_candidates(shape: Shape, options: ServeOptions, cards: Sequence[Card]) -> Iterator[Candidate]:
    if not cards:
        yield from _on_processor(shape, options)
        return
    ranks = options.tensor * options.pipeline
    if not options.weight_bits and shrinks(shape, replace(options, weight_bits=8)):
        yield "Make 8 bits of its weights at the start", 2.2, replace(options, weight_bits=8.0), ranks
    if options.cache_type == "auto":
        yield "Keep the cache in 8 bits", 1, replace(options, cache_type="fp8"), ranks
    if options.batched_tokens > 2048:
        yield "Read prompts in smaller batches (2,048)", 2, replace(options, batched_tokens=2048), ranks
    if not options.eager:
        yield "Run without CUDA graphs", 3, replace(options, eager=True), ranks
    if options.fraction < HIGHEST_FRACTION:
        yield f"Give it {HIGHEST_FRACTION:.0%} of the card", 2, replace(options, fraction=HIGHEST_FRACTION), ranks
    more = 2 * options.tensor
    if more * options.pipeline <= len(cards):
        yield f"Split it over {more} cards", 1.5, replace(options, tensor=more), more * options.pipeline
