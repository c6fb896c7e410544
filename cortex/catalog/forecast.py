"""Whether a definition fits the cards of a host, why or why not, and what would change that."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import combinations, islice
from typing import Any, Literal

from cortex import placement
from cortex.calculator import answers, memory
from cortex.calculator.memory import Need, Yields
from cortex.calculator.serving import concurrency, request_bytes, tokens_held
from cortex.catalog import siblings
from cortex.catalog.changes import Candidate, applied, candidates, merged
from cortex.catalog.definition import Definition, Refusal
from cortex.catalog.estimates import Asked, Past, Plan, Read, Unknown, ask, read_shape
from cortex.catalog.siblings import Others
from cortex.sizes import gib
from engines.habits import LlamaOptions, ServeOptions

MOST_FIXES = 8
MOST_PAIRS, MOST_TRIED = 3, 40

Verdict = Literal["fits", "tight", "does_not_fit", "unknown"]


@dataclass(frozen=True)
class CardForecast:
    """A card with what the model would hold of it. `need` is None where it would hold nothing.

    `claim` is what is promised: the likely need, or the engine's share of the card. `chosen` says that placement
    would take this card now.
    """

    card: placement.Card
    need: Need | None = None
    claim: int = 0
    chosen: bool = False
    verdict: Verdict = "unknown"
    reason: str = ""


@dataclass(frozen=True)
class Fix:
    """A change that is ready to apply: a JSON merge patch of the definition. `fits` was computed."""

    title: str
    patch: Mapping[str, Any]
    fits: bool


@dataclass(frozen=True)
class Forecast:
    """The answer. Sizes are bytes; None stands for what cannot be known, never zero.

    `goes_to` is the host that has room for it now, empty while none has; `in_the_way` names the replicas whose
    stopping would make room.
    """

    verdict: Verdict
    reason: str
    remedy: str = ""
    cards: tuple[CardForecast, ...] = ()
    host: Need | None = None
    host_memory: int | None = None
    disk: int | None = None
    yields: Yields | None = None
    longest_context: int | None = None
    most_users: int | None = None
    fixes: tuple[Fix, ...] = ()
    assumptions: tuple[str, ...] = ()
    goes_to: str = ""
    in_the_way: tuple[str, ...] = ()
    past: Past | None = None
    plan: Plan | None = field(default=None, repr=False)


def forecast(
    definition: Definition,
    host: placement.Host,
    past: Sequence[Past] = (),
    read: Read = read_shape,
    others: Others = siblings.of,
) -> Forecast:
    """What it will take on this host, and whether that is free; `others` finds further files of the same model.

    Raises Refusal when its options are not valid.
    """
    try:
        asked = ask(definition, len(_usable(host)), past, read)
    except Unknown as unknown:
        cards = tuple(CardForecast(card) for card in host.cards)
        return Forecast("unknown", unknown.why, unknown.remedy, cards, host_memory=host.memory or None)
    answer = placement.on_host(asked.need, host)
    found = _judged(definition, asked, host, answer)
    return (
        found if found.verdict == "fits" else replace(found, fixes=fixes(definition, found, host, past, read, others))
    )


def _usable(host: placement.Host) -> list[placement.Card]:
    return [card for card in host.cards if not card.missing]


def _judged(
    definition: Definition, asked: Asked, host: placement.Host, answer: placement.Seats | placement.NoRoom
) -> Forecast:
    seats = answer.by_card if isinstance(answer, placement.Seats) else {}
    count = len(seats) if isinstance(answer, placement.Seats) else max(asked.plans)
    plan = asked.plans[count]
    cards = tuple(_cards(asked.need, plan, host, seats, count))
    chosen = [each for each in cards if each.chosen] or _best(cards, count)
    verdict, reason = _verdict(plan, host, answer, chosen)
    return Forecast(
        verdict=verdict,
        reason=reason,
        cards=cards,
        host=plan.estimate.host,
        host_memory=host.memory or None,
        disk=plan.estimate.disk or None,
        assumptions=plan.assumptions,
        goes_to=host.name if isinstance(answer, placement.Seats) else "",
        in_the_way=answer.in_the_way if isinstance(answer, placement.NoRoom) else (),
        past=plan.past,
        plan=plan,
        **_yields(definition, plan, [each.card for each in chosen], host.memory),
    )


def _cards(
    need: placement.Need, plan: Plan, host: placement.Host, seats: Mapping[str, int], count: int
) -> Iterator[CardForecast]:
    """One card: what each would hold, were it that one. Several: those that placement takes, or the first so many."""
    usable = _usable(host)
    taking = [card.uuid for card in usable if card.uuid in seats] or [card.uuid for card in usable][:count]
    for card in host.cards:
        if card.missing or not count or (count > 1 and card.uuid not in taking):
            yield CardForecast(card)
            continue
        place = taking.index(card.uuid) if count > 1 else 0
        yield _on_card(card, plan, place, need, chosen=card.uuid in seats)


def _on_card(card: placement.Card, plan: Plan, place: int, need: placement.Need, *, chosen: bool) -> CardForecast:
    terms = plan.estimate.gpus[place]
    claim = need.claim(card.total, terms.likely)
    room = int(plan.fraction * card.total) if plan.fraction else card.free
    if claim > card.free:
        verdict, reason = "does_not_fit", f"{gib(claim)} are wanted, and {gib(card.free)} are free."
    elif terms.likely > room:
        verdict, reason = "does_not_fit", f"It needs {gib(terms.likely)}, and its share is {gib(room)}."
    elif terms.high > room:
        verdict, reason = "tight", f"It may take up to {gib(terms.high)}, and it has {gib(room)}."
    else:
        verdict, reason = "fits", f"{gib(card.free - claim)} stay free."
    return CardForecast(card, terms, claim, chosen, verdict, reason)  # type: ignore[arg-type]


def _best(cards: Sequence[CardForecast], count: int) -> list[CardForecast]:
    """The cards to reckon with while none will do: the emptiest."""
    held = [each for each in cards if each.need is not None]
    return sorted(held, key=lambda each: -each.card.free)[:count]


def _verdict(
    plan: Plan, host: placement.Host, answer: placement.Seats | placement.NoRoom, chosen: Sequence[CardForecast]
) -> tuple[Verdict, str]:
    if isinstance(answer, placement.NoRoom):
        return "does_not_fit", str(answer)
    if not chosen:
        return _on_processor(plan, host)
    worst = next((each for each in chosen if each.verdict == "does_not_fit"), None)
    worst = worst or next((each for each in chosen if each.verdict == "tight"), chosen[0])
    names = " and ".join(each.card.label for each in chosen)
    if plan.fraction:
        told = (
            f"It claims {plan.fraction:.0%} of {names} and needs {gib(worst.need.likely if worst.need else 0)} there."
        )
    else:
        told = f"It needs {' and '.join(gib(each.claim) for each in chosen)} on {names}."
    return worst.verdict, f"{told} {worst.reason}"


def _on_processor(plan: Plan, host: placement.Host) -> tuple[Verdict, str]:
    need = plan.estimate.host
    if not host.memory:
        return "unknown", f"It needs {gib(need.likely)} of the host's memory, and how much that has is not known."
    told = f"It runs on the processor and needs {gib(need.likely)} of the host's {gib(host.memory)}."
    if isinstance(plan.options, ServeOptions):
        length = plan.options.length(plan.shape)
        one = request_bytes(plan.shape, plan.options, length)
        if one > plan.options.cache_bytes:
            kept = gib(plan.options.cache_bytes)
            return "does_not_fit", f"One request of {length:,} tokens takes {gib(one)} of cache, and {kept} are kept."
    if need.high > host.memory:
        return "tight", f"{told} It may take up to {gib(need.high)}."
    return "fits", told


def _yields(definition: Definition, plan: Plan, cards: Sequence[placement.Card], host_memory: int) -> dict[str, Any]:
    """What the cards give besides, or else the host: tokens of cache, the longest context, the most users."""
    if not cards and (plan.estimate.gpus or not host_memory):
        return {}
    shape, options = plan.shape, plan.options
    room = [memory.Card(card.total, card.free, card.name) for card in cards]
    context = definition.context or shape.context
    apart = replace(options, unified=False) if isinstance(options, LlamaOptions) else options
    users = options.slots if isinstance(options, LlamaOptions) else definition.users or 1
    return {
        "longest_context": answers.longest_context(shape, options, room, users, host_memory),
        "most_users": answers.most_users(shape, apart, room, context, host_memory),
        "yields": _held(plan, room),
    }


def _held(plan: Plan, room: Sequence[memory.Card]) -> Yields | None:
    """What the budget of the card that has least buys, from the plan's own terms."""
    options = plan.options
    if not isinstance(options, ServeOptions):
        return None
    if not room:
        kept = options.cache_bytes
        return Yields(kept, tokens_held(plan.shape, options, kept), concurrency(plan.shape, options, kept))
    terms = [term for term in plan.estimate.gpus[0].terms if term.name != "kv_cache"]
    budget = max(0, min(memory.cache_budget(options, card, terms) for card in room))
    return Yields(budget, tokens_held(plan.shape, options, budget), concurrency(plan.shape, options, budget))


def fixes(
    definition: Definition, found: Forecast, host: placement.Host, past: Sequence[Past], read: Read, others: Others
) -> tuple[Fix, ...]:
    """Changes that make it fit, each judged as placement would judge it; two at once where no single one does."""
    if found.plan is None:
        return ()
    usable = sorted(_usable(host), key=lambda card: -card.free)
    room = [memory.Card(card.total, card.free, card.name) for card in usable]
    single = candidates(definition, found.plan, room, read, others)
    tried = (_tried(definition, each, host, past, read) for each in single)
    fitting = tuple(islice((fix for fix in tried if fix), MOST_FIXES))
    if fitting:
        return fitting
    both = (_tried(definition, each, host, past, read) for each in _pairs(single))
    return tuple(islice((fix for fix in both if fix), MOST_PAIRS))


def _pairs(single: Sequence[Candidate]) -> list[Candidate]:
    """Two changes of different things at once, what hurts least first."""
    found = [
        Candidate(
            f"{one.title}; {two.title[0].lower()}{two.title[1:]}", merged(one.patch, two.patch), one.pain + two.pain
        )
        for one, two in combinations(single, 2)
        if not (_touched(one.patch) & _touched(two.patch))
    ]
    return sorted(found, key=lambda candidate: candidate.pain)[:MOST_TRIED]


def _touched(patch: Mapping[str, Any]) -> set[str]:
    """The fields of a definition that a patch changes; engine and source belong together."""
    names = {name for name in patch if name not in ("options", "source", "image")}
    names |= {"engine"} if "source" in patch else set()
    return names | {f"options.{name}" for name in patch.get("options", {})}


def _tried(
    definition: Definition, change: Candidate, host: placement.Host, past: Sequence[Past], read: Read
) -> Fix | None:
    try:
        changed = applied(definition, change.patch)
        if changed == definition:
            return None
        asked = ask(changed, len(_usable(host)), past, read)
    except (Unknown, Refusal, ValueError):
        return None
    answer = placement.on_host(asked.need, host)
    if isinstance(answer, placement.NoRoom):
        return None
    verdict = _judged_quickly(asked, host, answer)
    return Fix(change.title, change.patch, fits=True) if verdict in ("fits", "tight") else None


def _judged_quickly(asked: Asked, host: placement.Host, answer: placement.Seats) -> Verdict:
    """The verdict alone."""
    count = len(answer.by_card)
    cards = list(_cards(asked.need, asked.plans[count], host, answer.by_card, count))
    return _verdict(asked.plans[count], host, answer, [each for each in cards if each.chosen])[0]
