"""Whether a definition fits the cards of a host, why or why not, and what would change that."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from typing import Any, Literal

from cortex import placement
from cortex.calculator import answers, memory
from cortex.calculator.memory import Need, Yields
from cortex.calculator.serving import concurrency, tokens_held
from cortex.catalog.definition import Definition, Refusal
from cortex.catalog.estimates import Asked, Past, Plan, Read, Unknown, ask, read_shape
from engines import engine
from engines.habits import Habits, LlamaOptions, ServeOptions

GIB = 1 << 30
MOST_FIXES = 6
LEAST_SHARE = 0.05

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
    definition: Definition, host: placement.Host, past: Sequence[Past] = (), read: Read = read_shape
) -> Forecast:
    """What it will take on this host, and whether that is free. Raises Refusal when its options are not valid."""
    try:
        asked = ask(definition, len(_usable(host)), past, read)
    except Unknown as unknown:
        cards = tuple(CardForecast(card) for card in host.cards)
        return Forecast("unknown", unknown.why, unknown.remedy, cards, host_memory=host.memory or None)
    answer = placement.on_host(asked.need, host)
    found = _judged(definition, asked, host, answer)
    return found if found.verdict == "fits" else replace(found, fixes=fixes(definition, found, host, past, read))


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
        **_yields(definition, plan, [each.card for each in chosen]),
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
    if need.high > host.memory:
        return "tight", f"{told} It may take up to {gib(need.high)}."
    return "fits", told


def _yields(definition: Definition, plan: Plan, cards: Sequence[placement.Card]) -> dict[str, Any]:
    """What the cards give besides: tokens of cache, the longest context, the most users. Nothing without cards."""
    if not cards:
        return {}
    shape, options = plan.shape, plan.options
    room = [memory.Card(card.total, card.free, card.name) for card in cards]
    context = definition.context or shape.context
    apart = replace(options, unified=False) if isinstance(options, LlamaOptions) else options
    users = options.slots if isinstance(options, LlamaOptions) else definition.users or 1
    return {
        "longest_context": answers.longest_context(shape, options, room, users),
        "most_users": answers.most_users(shape, apart, room, context),
        "yields": _held(plan, room),
    }


def _held(plan: Plan, room: Sequence[memory.Card]) -> Yields | None:
    """What the budget of the card that has least buys, from the plan's own terms."""
    options = plan.options
    if not isinstance(options, ServeOptions):
        return None
    terms = [term for term in plan.estimate.gpus[0].terms if term.name != "kv_cache"]
    budget = max(0, min(memory.cache_budget(options, card, terms) for card in room))
    return Yields(budget, tokens_held(plan.shape, options, budget), concurrency(plan.shape, options, budget))


def fixes(
    definition: Definition, found: Forecast, host: placement.Host, past: Sequence[Past], read: Read
) -> tuple[Fix, ...]:
    """Changes that make it fit, each judged as placement would judge it; those that do not help are left out."""
    tried = (_tried(definition, *each, host, past, read) for each in _changes(definition, found, host))
    return tuple(fix for fix in tried if fix)[:MOST_FIXES]


def _changes(definition: Definition, found: Forecast, host: placement.Host) -> Iterator[tuple[str, dict[str, Any]]]:
    """Titles and patches, what hurts least first."""
    plan = found.plan
    if plan is None:
        return
    usable = sorted(_usable(host), key=lambda card: -card.free)
    room = [memory.Card(card.total, card.free, card.name) for card in usable]
    count = max(len(plan.estimate.gpus), 1) if usable else 0
    if isinstance(plan.options, ServeOptions) and room:
        yield from _share(definition, plan, plan.options, room[0])
    used = room if isinstance(plan.options, ServeOptions) else room[:count]
    for change in answers.changes(plan.shape, plan.options, used):
        patch = _patch(definition, plan.options, change.options)
        if isinstance(plan.options, ServeOptions) and change.cards != count:
            patch["gpus"] = change.cards
        if patch:
            yield change.title, patch
    if count and 2 * count <= len(usable) and isinstance(plan.options, LlamaOptions):
        yield f"Split it over {2 * count} GPUs", {"gpus": 2 * count}


def _share(
    definition: Definition, plan: Plan, options: ServeOptions, card: memory.Card
) -> Iterator[tuple[str, dict[str, Any]]]:
    """The share of the emptiest card that serves what was asked for, from bytes instead of habit."""
    users, context = definition.users or 1, options.length(plan.shape)
    best = answers.best_fraction(plan.shape, options, card, context, users)
    if best and best != options.fraction:
        best = max(best, LEAST_SHARE)
        patch = {"options": engine(definition.engine).options_for({"fraction": best})}
        yield f"Take {best:.0%} of the GPU: enough for {users} at {context:,} tokens", patch


def _patch(definition: Definition, before: Habits, after: Habits) -> dict[str, Any]:
    """The merge patch of the definition that turns the one set of habits into the other."""
    names = [each.name for each in fields(before)]
    changed = {name: getattr(after, name) for name in names if getattr(after, name) != getattr(before, name)}
    options = engine(definition.engine).options_for(changed)
    patch: dict[str, Any] = {"options": options} if options else {}
    if "context" in changed:
        shared = isinstance(after, ServeOptions) or after.unified
        patch["context"] = changed["context"] if shared else changed["context"] // getattr(after, "slots", 1)
    return patch


def _tried(
    definition: Definition,
    title: str,
    patch: dict[str, Any],
    host: placement.Host,
    past: Sequence[Past],
    read: Read,
) -> Fix | None:
    options = {**definition.options, **patch.get("options", {})}
    changed = definition.model_copy(update={**patch, "options": options})
    if changed == definition:
        return None
    try:
        asked = ask(changed, len(_usable(host)), past, read)
    except (Unknown, Refusal):
        return None
    answer = placement.on_host(asked.need, host)
    if isinstance(answer, placement.NoRoom):
        return None
    verdict = _judged_quickly(asked, host, answer)
    return Fix(title, patch, fits=True) if verdict in ("fits", "tight") else None


def _judged_quickly(asked: Asked, host: placement.Host, answer: placement.Seats) -> Verdict:
    """The verdict alone."""
    count = len(answer.by_card)
    cards = list(_cards(asked.need, asked.plans[count], host, answer.by_card, count))
    return _verdict(asked.plans[count], host, answer, [each for each in cards if each.chosen])[0]


def gib(size: int) -> str:
    return f"{size / GIB:.1f} GiB"
