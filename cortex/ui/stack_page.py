"""The plan of several models on one set of cards, as its page draws it: bars, scenarios, what to change."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlencode

from cortex import placement
from cortex.calculator.stacks import Scenario
from cortex.catalog.definition import Definition, Refusal
from cortex.catalog.stack import Seated, Stacked, stack
from cortex.ui import fields, panel
from cortex.ui.bars import WIDTH, Segment, placed
from engines import engine

HUES = 6


@dataclass(frozen=True)
class CardBar:
    """A card with the models that would be on it."""

    name: str
    kind: str
    total: int
    segments: list[Segment]


@dataclass(frozen=True)
class Row:
    """A scenario as one bar over all cards; `limit` is where they end, `missing` are models without room."""

    scenario: Scenario
    segments: list[Segment]
    limit: float | None
    missing: list[str]


@dataclass(frozen=True)
class Parts:
    """A model's bytes under each scenario, in their order; None where it found no room."""

    name: str
    hue: str
    sizes: list[int | None]


@dataclass(frozen=True)
class Step:
    """What is to be changed of one model: fields with what stands there now; `query` fills them into its form."""

    name: str
    hue: str
    cards: str
    seated: Seated
    changes: list[tuple[str, str, str]]
    query: str


@dataclass(frozen=True)
class LeftOut:
    """A model that cannot be reckoned with."""

    name: str
    why: str


@dataclass(frozen=True)
class StackPage:
    """Everything of one plan. `room` is what its cards hold in all, `host` the models in the host's own memory."""

    stacked: Stacked
    room: int
    cards: list[CardBar]
    rows: list[Row]
    parts: list[Parts]
    steps: list[Step]
    host: list[Segment]

    @property
    def is_larger_now(self) -> bool:
        """Whether the present settings do not fit these cards."""
        return self.stacked.scenarios[0].total > self.room

    @property
    def lacks(self) -> int:
        """Bytes that the host has too little."""
        found = self.stacked
        return max(0, found.host_total - found.memory) if found.memory else 0


def planned(
    definitions: Sequence[Definition], host: placement.Host, names: Mapping[str, str]
) -> tuple[StackPage | None, list[LeftOut]]:
    """The plan of those that can be reckoned with; `names` are the cards', by UUID. Raises Refusal without cards."""
    kept: list[Definition] = list(definitions)
    left: list[LeftOut] = []
    while kept:
        try:
            return drawn(stack(kept, host), kept, names), left
        except Refusal as refusal:
            culprit = _culprit(refusal, kept, host)
            if culprit is None:
                raise
            kept.remove(culprit)
            left.append(LeftOut(culprit.name, refusal.problems[0].detail.removeprefix(f"{culprit.name}: ")))
    return None, left


def _culprit(refusal: Refusal, among: Sequence[Definition], host: placement.Host) -> Definition | None:
    """Whose fault it is: the one that is pointed at, or else the first that is refused alone as well."""
    at = refusal.problems[0].pointer.split("/")
    if at[1:2] == ["host"]:
        return None
    if at[1:2] == ["definitions"] and len(at) > 2:
        return among[int(at[2])]
    return next((each for each in among if not _stands(each, host)), None)


def _stands(definition: Definition, host: placement.Host) -> bool:
    try:
        stack([definition], host)
    except Refusal:
        return False
    return True


def drawn(found: Stacked, definitions: Sequence[Definition], names: Mapping[str, str]) -> StackPage:
    """A plan with its bars."""
    hues = {each.name: f"seat-{place % HUES + 1}" for place, each in enumerate(definitions)}
    by_name = {each.name: each for each in definitions}
    room = sum(card.total - card.foreign for card in found.cards)
    widest = max(room, *(each.total for each in found.scenarios), 1)
    on_cards = {name: hues[name] for name in found.scenarios[0].parts} if found.scenarios else {}
    return StackPage(
        stacked=found,
        room=room,
        cards=[_card(found, number, hues, names) for number in range(len(found.cards))],
        rows=[_row(each, on_cards, room, widest) for each in found.scenarios],
        parts=[Parts(name, hue, [each.parts[name] for each in found.scenarios]) for name, hue in on_cards.items()],
        steps=[_step(found, each, by_name[each.share.name], hues, names) for each in found.seated],
        host=_host(found, hues),
    )


def _host(found: Stacked, hues: Mapping[str, str]) -> list[Segment]:
    parts = [(each.name, hues[each.name], each.bytes) for each in found.beside]
    parts.append(("free", "free", max(0, found.memory - found.host_total)))
    return placed(parts, max(found.memory, found.host_total, 1))


def _card(found: Stacked, number: int, hues: Mapping[str, str], names: Mapping[str, str]) -> CardBar:
    card = found.cards[number]
    parts = [
        (each.share.name, hues[each.share.name], each.share.parts[each.share.cards.index(number)])
        for each in found.seated
        if number in each.share.cards
    ]
    parts += [("used by others", "foreign", card.foreign), ("free", "free", found.plan.left[number])]
    return CardBar(names[card.uuid], card.name, card.total, placed(parts, card.total))


def _row(scenario: Scenario, hues: Mapping[str, str], room: int, widest: int) -> Row:
    parts = [(name, hue, scenario.parts[name] or 0) for name, hue in hues.items()]
    parts.append(("free", "free", room - scenario.total))
    missing = [name for name, size in scenario.parts.items() if size is None]
    return Row(scenario, placed(parts, widest), round(WIDTH * room / widest, 1) if widest > room else None, missing)


def _step(
    found: Stacked, seated: Seated, definition: Definition, hues: Mapping[str, str], names: Mapping[str, str]
) -> Step:
    cards = " and ".join(names[found.cards[number].uuid] for number in seated.share.cards)
    fills = panel.fills(definition, seated.patch)
    return Step(
        name=definition.name,
        hue=hues[definition.name],
        cards=cards,
        seated=seated,
        changes=list(_changes(definition, fills.items())),
        query=urlencode(fills),
    )


def _changes(definition: Definition, fills: Iterable[tuple[str, str]]) -> Iterable[tuple[str, str, str]]:
    """Title, what stands there, what would."""
    options = engine(definition.engine).Options
    known: dict[str, Any] = options.model_json_schema()["properties"]
    for name, now in fills:
        option = name.removeprefix("options.")
        if option not in known:
            yield "GPUs", "Cortex chooses", now
            continue
        value = definition.options.get(option, known[option].get("default"))
        yield known[option].get("title", option), "" if value is None else fields.write(value), now
