"""Several models on one set of cards: each takes the bytes it needs, and what other settings would make of that."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from math import ceil

from cortex.calculator.answers import HIGHEST_FRACTION, Options, wanted
from cortex.calculator.memory import Card, estimate, fixed_terms
from cortex.calculator.serving import request_bytes
from cortex.calculator.shape import Shape
from cortex.calculator.weights import shrinks
from engines.habits import LlamaOptions, ServeOptions

HALF = 2
LEAST_CONTEXT = 2048
CONTEXT = int(0.6 * (1 << 30))  # CUDA's own of one process: 0.5 to 0.7 GiB were seen beside vLLM's share


@dataclass(frozen=True, slots=True)
class Wish:
    """A model that shall run beside others: ``users`` at ``context`` each.

    ``ways`` are its options by each count of cards it may be spread over; ``present`` is the share of each card that
    it claims now, None for an engine that takes what it needs.
    """

    name: str
    shape: Shape
    ways: Mapping[int, Options]
    context: int
    users: int
    present: float | None = None


@dataclass(frozen=True, slots=True)
class Share:
    """What one model of a stack takes: bytes on each of ``cards``, the ``fraction`` of a card that is, what that frees.

    An engine that fills a budget has one fraction for all its cards: unlike ones then give unlike bytes.
    """

    name: str
    cards: tuple[int, ...]
    parts: tuple[int, ...]
    fraction: float
    freed: int

    @property
    def bytes(self) -> int:
        return sum(self.parts)


@dataclass(frozen=True, slots=True)
class Stack:
    """Several models on one set of cards. ``left`` is what stays free per card, processes' own counted;
    ``refused`` found no room.
    """

    shares: tuple[Share, ...]
    left: tuple[int, ...]
    refused: tuple[str, ...]

    @property
    def total(self) -> int:
        return sum(share.bytes for share in self.shares)

    @property
    def freed(self) -> int:
        """Bytes saved against the present settings."""
        return sum(share.freed for share in self.shares)


@dataclass(frozen=True, slots=True)
class Scenario:
    """The same models under other settings: bytes by model, None where it found no room; what is saved against now."""

    title: str
    parts: Mapping[str, int | None]
    total: int
    freed: int


def stack_plan(wishes: Sequence[Wish], cards: Sequence[Card]) -> Stack:
    """Places the largest first; where not all find room so, the smallest first if that seats more of them."""
    largest_first = sorted(wishes, key=lambda wish: -least(wish, cards))
    found = _in_order(largest_first, cards)
    if not found.refused:
        return found
    return min(found, _in_order(largest_first[::-1], cards), key=lambda plan: len(plan.refused))


def _in_order(wishes: Sequence[Wish], cards: Sequence[Card]) -> Stack:
    """Each on as few cards as will do, where it leaves least unused."""
    left = [card.available for card in cards]
    shares, refused = [], []
    for wish in wishes:
        share = next(_seats(wish, cards, left), None)
        if share is None:
            refused.append(wish.name)
            continue
        for card, part in zip(share.cards, share.parts, strict=True):
            left[card] -= part + beside(wish)
        shares.append(share)
    return Stack(tuple(shares), tuple(left), tuple(refused))


def needs(wish: Wish, count: int, cards: Sequence[Card]) -> tuple[int, ...]:
    """Bytes on each of ``count`` cards that serve the wish."""
    options = wanted(wish.ways[count], wish.context, wish.users)
    if isinstance(options, LlamaOptions):
        return tuple(gpu.likely for gpu in estimate(wish.shape, options, cards[:count]).gpus)
    fixed = sum(term.likely for term in fixed_terms(wish.shape, options))
    return (fixed + wish.users * request_bytes(wish.shape, options, wish.context),) * count


def least(wish: Wish, cards: Sequence[Card]) -> int:
    """Bytes in all on as few cards as it may take."""
    return sum(needs(wish, min(wish.ways), cards))


def now(wish: Wish, cards: Sequence[Card]) -> int:
    """Bytes that its present settings claim, on as few cards as it may take."""
    largest = max((card.total for card in cards), default=0)
    held = int((wish.present or 0) * largest) * min(wish.ways)
    return held or least(wish, cards)


def beside(wish: Wish) -> int:
    """What a process takes of each card beside the share it fills; engines that plan buffers count it among them."""
    return CONTEXT if isinstance(next(iter(wish.ways.values())), ServeOptions) else 0


def _seats(wish: Wish, cards: Sequence[Card], left: Sequence[int]) -> Iterator[Share]:
    """Ways to seat it, the best first: few cards before many, cards alike before others."""
    for count in sorted(wish.ways):
        if count > len(cards):
            return
        wanted_parts = needs(wish, count, cards)
        for group in _groups(cards, left, count, max(wanted_parts) + beside(wish)):
            share = _share(wish, cards, group, wanted_parts)
            if all(part + beside(wish) <= left[card] for card, part in zip(share.cards, share.parts, strict=True)):
                yield share


def _groups(cards: Sequence[Card], left: Sequence[int], count: int, need: int) -> Iterator[tuple[int, ...]]:
    """Cards with so much left: alike ones, the fullest that will do; then any, the emptiest."""
    able = [index for index, card in enumerate(cards) if card.total and left[index] >= need]
    found = []
    for total in {cards[index].total for index in able}:
        alike = sorted((index for index in able if cards[index].total == total), key=lambda index: left[index])
        found += [alike[at : at + count] for at in range(len(alike) - count + 1)]
    yield from (tuple(sorted(group)) for group in sorted(found, key=lambda group: sum(left[each] for each in group)))
    mixed = sorted(able, key=lambda index: -left[index])[:count]
    if len(mixed) == count:
        yield tuple(sorted(mixed))


def _share(wish: Wish, cards: Sequence[Card], group: tuple[int, ...], parts: tuple[int, ...]) -> Share:
    shares = [ceil(100 * part / cards[card].total) / 100 for card, part in zip(group, parts, strict=True)]
    fraction = max(shares)
    if isinstance(wish.ways[len(group)], ServeOptions):
        high = fraction > HIGHEST_FRACTION
        parts = tuple(cards[card].total + 1 if high else ceil(fraction * cards[card].total) for card in group)
    held = sum(int((wish.present or 0) * cards[card].total) for card in group)
    return Share(wish.name, group, parts, fraction, max(0, held - sum(parts)))


def scenarios(wishes: Sequence[Wish], cards: Sequence[Card]) -> tuple[Scenario, ...]:
    """The stack as it is set now, as little as it needs, and that with cheaper settings: each planned anew."""
    before = {wish.name: now(wish, cards) for wish in wishes}
    found = [Scenario("As set now", before, sum(before.values()), 0)]
    for title, change in CHANGES:
        changed = [change(wish) for wish in wishes]
        if title != JUST_ENOUGH and changed == list(wishes):
            continue
        plan = stack_plan(changed, cards)
        parts = {share.name: share.bytes for share in plan.shares}
        freed = sum(before[name] - size for name, size in parts.items())
        found.append(Scenario(title, {wish.name: parts.get(wish.name) for wish in wishes}, plan.total, freed))
    return tuple(found)


def _same(wish: Wish) -> Wish:
    return wish


def _narrow_cache(wish: Wish) -> Wish:
    return replace(wish, ways={count: _narrowed(options) for count, options in wish.ways.items()})


def _narrowed(options: Options) -> Options:
    if isinstance(options, ServeOptions):
        return replace(options, cache_type="fp8") if options.cache_type == "auto" else options
    return (
        replace(options, key_type="q8_0", value_type="q8_0") if options.flash and options.key_type == "f16" else options
    )


def _half_context(wish: Wish) -> Wish:
    return replace(wish, context=wish.context // HALF) if wish.context >= HALF * LEAST_CONTEXT else wish


def _one_user(wish: Wish) -> Wish:
    return replace(wish, users=1)


def _narrow_weights(wish: Wish) -> Wish:
    return replace(wish, ways={count: _eight_bits(wish.shape, options) for count, options in wish.ways.items()})


def _eight_bits(shape: Shape, options: Options) -> Options:
    if not isinstance(options, ServeOptions) or options.weight_bits:
        return options
    made = replace(options, weight_bits=8.0)
    return made if shrinks(shape, made) else options


JUST_ENOUGH = "Just what it needs"
CHANGES = (
    (JUST_ENOUGH, _same),
    ("With the cache in 8 bits", _narrow_cache),
    ("With half the context", _half_context),
    ("With one user each", _one_user),
    ("With 8 bits made of 16-bit weights", _narrow_weights),
    ("With 8-bit weights and cache", lambda wish: _narrow_weights(_narrow_cache(wish))),
)
