"""Several models on one set of cards: each takes the bytes it needs instead of a share by habit."""

from collections.abc import Iterator, Mapping, Sequence
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
class Beside:
    """What a model of the stack takes of the host's own memory, in bytes: all it needs where it runs on no card."""

    name: str
    bytes: int
    on_processor: bool


@dataclass(frozen=True)
class Stacked:
    """The whole plan. `cards` are those it was made for, as if Cortex ran nothing else there.

    `memory` is the host's own, 0 where it is not known; `beside` is what the models of the stack take of it.
    """

    plan: Stack
    seated: tuple[Seated, ...]
    cards: tuple[placement.Card, ...]
    scenarios: tuple[Scenario, ...]
    beside: tuple[Beside, ...]
    memory: int

    @property
    def fits(self) -> bool:
        """Whether every model found its cards, and the host has memory for all of them."""
        return not self.plan.refused and (not self.memory or self.host_total <= self.memory)

    @property
    def host_total(self) -> int:
        return sum(each.bytes for each in self.beside)


def stack(definitions: Sequence[Definition], host: placement.Host, read: Read = read_shape) -> Stacked:
    """Places all of them on cards of the host, those that run on the processor beside them.

    Raises Refusal when one of them cannot be reckoned with.
    """
    cards = tuple(card for card in host.cards if not card.missing)
    if not cards and (host.cards or any(each.gpus for each in definitions)):
        raise Refusal("There is no GPU.", [Problem("/host", "Some of them ask for GPUs.", "Name some cards.")])
    plans = {each.name: _plans(number, each, len(cards), read) for number, each in enumerate(definitions)}
    wishes = {each.name: _wish(each, plans[each.name]) for each in definitions if 0 not in plans[each.name]}
    room = [memory.Card(card.total, max(0, card.total - card.foreign), card.name) for card in cards]
    planned = stack_plan(list(wishes.values()), room)
    by_name = {each.name: each for each in definitions}
    return Stacked(
        planned,
        tuple(Seated(share, _patch(by_name[share.name], wishes[share.name], share)) for share in planned.shares),
        cards,
        scenarios(list(wishes.values()), room) if wishes else (),
        tuple(_beside(planned, plans)),
        host.memory,
    )


def _beside(planned: Stack, plans: Mapping[str, Mapping[int, Plan]]) -> Iterator[Beside]:
    """Of those that run: a model without room takes nothing."""
    seated = {share.name: len(share.cards) for share in planned.shares}
    for name, by_count in plans.items():
        count = 0 if 0 in by_count else seated.get(name)
        if count is not None:
            yield Beside(name, by_count[count].estimate.host.likely, on_processor=not count)


def _wish(definition: Definition, plans: Mapping[int, Plan]) -> Wish:
    found = plans[min(plans)]
    options = found.options
    users = options.slots if isinstance(options, LlamaOptions) else definition.users or 1
    context = definition.context or found.shape.context
    ways = {count: each.options for count, each in plans.items()}
    return Wish(definition.name, found.shape, ways, context, users, found.fraction or None)


def _plans(number: int, definition: Definition, cards: int, read: Read) -> dict[int, Plan]:
    """By each count of cards that the definition allows and the engine can divide its heads over."""
    doubled = [1 << n for n in range(MOST_CARDS.bit_length()) if 1 << n <= cards] or [0]
    plans: dict[int, Plan] = {}
    refusal: Refusal | None = None
    for count in doubled if definition.gpus is None else [definition.gpus]:
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
