"""Several models on one set of cards: each takes the bytes it needs instead of a share by habit."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from cortex import placement
from cortex.calculator import memory
from cortex.calculator.answers import Share, Stack, Wish, stack_plan
from cortex.catalog.definition import Definition, Problem, Refusal
from cortex.catalog.estimates import Read, Unknown, plan, read_shape
from engines import engine
from engines.habits import LlamaOptions, ServeOptions


@dataclass(frozen=True)
class Seated:
    """A model of the stack with the merge patch that makes it take just its share."""

    share: Share
    patch: dict[str, Any]


@dataclass(frozen=True)
class Stacked:
    """The whole plan. `cards` are those it was made for, as if Cortex ran nothing else there."""

    plan: Stack
    seated: tuple[Seated, ...]
    cards: tuple[placement.Card, ...]


def stack(definitions: Sequence[Definition], host: placement.Host, read: Read = read_shape) -> Stacked:
    """Places all of them on single cards of the host. Raises Refusal when one of them cannot be reckoned with."""
    cards = tuple(card for card in host.cards if not card.missing)
    if not cards:
        raise Refusal("There is no GPU.", [Problem("/host", "A stack is planned on GPUs.", "Name some cards.")])
    wishes = {each.name: _wish(number, each, read) for number, each in enumerate(definitions)}
    room = [memory.Card(card.total, max(0, card.total - card.foreign), card.name) for card in cards]
    planned = stack_plan(list(wishes.values()), room)
    engines = {each.name: each.engine for each in definitions}
    seated = [Seated(share, _patch(engines[share.name], wishes[share.name], share)) for share in planned.shares]
    return Stacked(planned, tuple(seated), cards)


def _wish(number: int, definition: Definition, read: Read) -> Wish:
    if definition.gpus not in (None, 1):
        detail = f"{definition.name} asks for {definition.gpus} GPUs, and a stack gives each model one."
        raise Refusal("The stack cannot be planned.", [Problem(f"/definitions/{number}/gpus", detail, "Ask for 1.")])
    try:
        found = plan(definition, 1, read=read)
    except Unknown as unknown:
        problem = Problem(f"/definitions/{number}", f"{definition.name}: {unknown.why}", unknown.remedy)
        raise Refusal("The stack cannot be planned.", [problem]) from unknown
    options = found.options
    users = options.slots if isinstance(options, LlamaOptions) else definition.users or 1
    context = definition.context or found.shape.context
    return Wish(definition.name, found.shape, options, context, users, found.fraction or None)


def _patch(name: str, wish: Wish, share: Share) -> dict[str, Any]:
    if not isinstance(wish.options, ServeOptions) or wish.present == share.fraction:
        return {}
    return {"options": engine(name).options_for({"fraction": share.fraction})}
