"""WHERE: what a replica needs and the cards as they are -> seats, or a refusal that names each card. Pure."""

from collections.abc import Sequence
from dataclasses import dataclass

GIB = 1 << 30


@dataclass(frozen=True)
class Card:
    """A GPU as it is now. `total` and `free` are bytes; `free` is what nobody was promised and nobody uses."""

    uuid: str
    name: str
    total: int
    free: int
    missing: bool = False


@dataclass(frozen=True)
class Need:
    """What one replica takes: `bytes` over all its cards, and how many (None: as few as will do)."""

    bytes: int
    gpus: int | None = None


@dataclass(frozen=True)
class Seats:
    """Bytes by card UUID; empty for a replica that runs on the CPU."""

    by_card: dict[str, int]


@dataclass(frozen=True)
class NoRoom:
    """Why not, in words, card by card."""

    reasons: tuple[str, ...]

    def __str__(self) -> str:
        return " ".join(self.reasons)


def place(need: Need, cards: Sequence[Card]) -> Seats | NoRoom:
    """Seats on the fullest cards that still have room, so that large gaps stay whole."""
    if need.gpus == 0 or (need.gpus is None and not cards):
        return Seats({})
    present = [card for card in cards if not card.missing]
    counts = [need.gpus] if need.gpus else [1 << n for n in range(len(present).bit_length())]
    for count in counts:
        share = -(-need.bytes // count)
        fitting = sorted((c for c in present if c.free >= share), key=lambda card: (card.free, card.uuid))
        if len(fitting) >= count:
            return Seats({card.uuid: share for card in fitting[:count]})
    return NoRoom(_reasons(need, cards, counts[-1] if counts else 1))


def _reasons(need: Need, cards: Sequence[Card], count: int) -> tuple[str, ...]:
    share = -(-need.bytes // count)
    wish = f"It needs {_gib(share)} on {'each of ' if count > 1 else ''}{count} GPU{'s' if count > 1 else ''}."
    if not cards:
        return (wish, "This host has no GPU.")
    return (wish, *(_why_not(card, share) for card in cards))


def _why_not(card: Card, share: int) -> str:
    label = f"{card.name or 'GPU'} ({card.uuid})"
    if card.missing:
        return f"{label} is gone."
    if card.total < share:
        return f"{label} has only {_gib(card.total)}."
    if card.free < share:
        return f"{label} has {_gib(card.free)} of {_gib(card.total)} free."
    return f"{label} would do, but one more like it is missing."


def _gib(count: int) -> str:
    return f"{count / GIB:.1f} GiB"
