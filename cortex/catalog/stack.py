"""Several models on one set of cards: each takes the bytes it needs instead of a share by habit."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from cortex import placement
from cortex.calculator import memory
from cortex.calculator.stacks import Scenario, Share, Stack, Wish, scenarios, stack_plan
from cortex.catalog.definition import Definition, Problem, Refusal
from cortex.catalog.estimates import MOST_CARDS, Plan, Read, Unknown, plan, read_shape
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
    scenarios: tuple[Scenario, ...]


def stack(definitions: Sequence[Definition], host: placement.Host, read: Read = read_shape) -> Stacked:
    """Places all of them on cards of the host. Raises Refusal when one of them cannot be reckoned with."""
    cards = tuple(card for card in host.cards if not card.missing)
    if not cards:
        raise Refusal("There is no GPU.", [Problem("/host", "A stack is planned on GPUs.", "Name some cards.")])
    wishes = {each.name: _wish(number, each, len(cards), read) for number, each in enumerate(definitions)}
    room = [memory.Card(card.total, max(0, card.total - card.foreign), card.name) for card in cards]
    planned = stack_plan(list(wishes.values()), room)
    by_name = {each.name: each for each in definitions}
    seated = [Seated(share, _patch(by_name[share.name], wishes[share.name], share)) for share in planned.shares]
    return Stacked(planned, tuple(seated), cards, scenarios(list(wishes.values()), room))


def _wish(number: int, definition: Definition, cards: int, read: Read) -> Wish:
    plans = _plans(number, definition, cards, read)
    found = plans[min(plans)]
    options = found.options
    users = options.slots if isinstance(options, LlamaOptions) else definition.users or 1
    context = definition.context or found.shape.context
    ways = {count: each.options for count, each in plans.items()}
    return Wish(definition.name, found.shape, ways, context, users, found.fraction or None)


def _plans(number: int, definition: Definition, cards: int, read: Read) -> dict[int, Plan]:
    """By each count of cards that the definition allows and the engine can divide its heads over."""
    if definition.gpus == 0:
        detail = f"{definition.name} runs on the processor, and a stack is planned on GPUs."
        raise Refusal("The stack cannot be planned.", [Problem(f"/definitions/{number}/gpus", detail, "Leave it out.")])
    doubled = [1 << n for n in range(MOST_CARDS.bit_length()) if 1 << n <= cards]
    plans: dict[int, Plan] = {}
    refusal: Refusal | None = None
    for count in [definition.gpus] if definition.gpus else doubled:
        try:
            found = plan(definition, count, read=read)
        except Unknown as unknown:
            problem = Problem(f"/definitions/{number}", f"{definition.name}: {unknown.why}", unknown.remedy)
            raise Refusal("The stack cannot be planned.", [problem]) from unknown
        except Refusal as error:
            refusal = error
            continue
        if isinstance(found.options, LlamaOptions) or not found.shape.heads % found.options.tensor:
            plans[count] = found
    if not plans:
        detail = f"{definition.name} cannot be divided over so many."
        problem = Problem(f"/definitions/{number}/gpus", detail, "Ask for fewer GPUs.")
        raise refusal or Refusal("The stack cannot be planned.", [problem])
    return plans


def _patch(definition: Definition, wish: Wish, share: Share) -> dict[str, Any]:
    count = len(share.cards)
    patch: dict[str, Any] = {"gpus": count} if definition.gpus is None and count > 1 else {}
    if isinstance(wish.ways[count], ServeOptions) and wish.present and wish.present != share.fraction:
        patch["options"] = engine(definition.engine).options_for({"fraction": share.fraction})
    return patch
