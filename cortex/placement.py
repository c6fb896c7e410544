"""WHERE: what a replica needs and the cards as they are -> seats, or a refusal that names each card. Pure."""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import groupby

from cortex.sizes import GIB, gib

TRACE = GIB // 20  # less is not worth a word


@dataclass(frozen=True)
class Card:
    """A GPU as it is now. `total` and `free` are bytes; `free` is what nobody was promised and nobody uses.

    `foreign` is what processes outside Cortex use of it, `pids` who is on it, `held` who was promised how much.
    """

    uuid: str
    name: str
    total: int
    free: int
    missing: bool = False
    foreign: int = 0
    pids: tuple[int, ...] = ()
    held: Mapping[str, int] = field(default_factory=dict)

    @property
    def label(self) -> str:
        return f"{self.name or 'GPU'} ({self.uuid})"


@dataclass(frozen=True)
class Host:
    """A host and its cards. `fault` says why nothing may go there (silent, cordoned); `load` counts its replicas.

    `memory` is bytes, 0 where it is not known, and `held` who was promised how much of it; `labels` are what people
    call the host.
    """

    name: str
    cards: Sequence[Card] = ()
    fault: str = ""
    memory: int = 0
    load: int = 0
    labels: Mapping[str, str] = field(default_factory=dict)
    held: Mapping[str, int] = field(default_factory=dict)

    @property
    def free(self) -> int:
        """Bytes of its own memory that nobody was promised."""
        return max(0, self.memory - sum(self.held.values()))


@dataclass(frozen=True)
class Need:
    """What one replica takes: `bytes` over all its cards, and how many (None: as few as will do; 0: CPU).

    `pinned` names the only cards that will do, `hosts` the only hosts, `labels` what its host must be called.
    `divides` is a number (of heads) that the count of cards must divide. `spread` takes the emptiest cards, else the
    fullest that fit.
    `shares` says by each count of cards that will do how many bytes it takes on each of them, in the host's order;
    without it all take alike. `fraction` of a card's total is what an engine claims that fills a budget.
    `host_bytes` is what it takes of the host's own memory.
    """

    bytes: int
    gpus: int | None = None
    pinned: frozenset[str] = frozenset()
    hosts: frozenset[str] = frozenset()
    labels: Mapping[str, str] = field(default_factory=dict)
    divides: int | None = None
    spread: bool = False
    shares: Mapping[int, tuple[int, ...]] = field(default_factory=dict)
    fraction: float = 0.0
    host_bytes: int = 0

    def share(self, count: int, place: int) -> int:
        """Bytes on the card at `place` of `count`."""
        return self.shares[count][place] if count in self.shares else -(-self.bytes // count)

    def largest(self, count: int) -> int:
        """The most it takes on one of `count` cards."""
        return max(self.share(count, place) for place in range(count))

    def claim(self, total: int, share: int) -> int:
        """What is promised on a card of `total` bytes: the share, or all of the budget."""
        return math.ceil(self.fraction * total) or share

    def of_host(self, seats: "Seats") -> int:
        """What it takes of the host's own memory in these seats: all of it where it runs on the processor."""
        return self.host_bytes if seats.by_card else max(self.host_bytes, self.bytes)

    def fits(self, card: Card, share: int) -> bool:
        """Whether the card has the claim free, and the claim is enough."""
        claim = self.claim(card.total, share)
        return share <= claim <= card.free


@dataclass(frozen=True)
class Seats:
    """Bytes by card UUID; empty for a replica that runs on the CPU."""

    by_card: dict[str, int]


@dataclass(frozen=True)
class Choice:
    """A host, and seats on its cards."""

    host: str
    seats: Seats


@dataclass(frozen=True)
class NoRoom:
    """Why not, in words, card by card; and whose stopping would make room, if anybody's would."""

    reasons: tuple[str, ...]
    in_the_way: tuple[str, ...] = ()

    def __str__(self) -> str:
        return " ".join(self.reasons)


_NO_CARDS = NoRoom(("It has no GPU. Ask for 0 GPUs to run on the CPU.",))


def choose(need: Need, hosts: Sequence[Host]) -> Choice | NoRoom:
    """A host and seats there: the least loaded host that has room. All cards of a replica are on one host."""
    if not hosts:
        return NoRoom(("There is no host. Start a worker and an agent, and see the Hosts page.",))
    refusals: list[tuple[Host, NoRoom]] = []
    suited = [host for host in hosts if misfit(need, host.name, host.labels) is None]
    on_cards = need.gpus is None and any(host.cards for host in suited)
    for host in sorted(hosts, key=_preference(need)):
        answer = _NO_CARDS if on_cards and host in suited and not host.cards else on_host(need, host)
        if isinstance(answer, Seats):
            return Choice(host.name, answer)
        refusals.append((host, answer))
    named = len(hosts) > 1
    unknown = sorted(need.hosts - {host.name for host in hosts})
    reasons = [f"There is no host {name}." for name in unknown]
    reasons += [f"On {host.name}: {refusal}" if named else str(refusal) for host, refusal in refusals]
    ways = [refusal.in_the_way for _, refusal in refusals if refusal.in_the_way]
    return NoRoom(tuple(reasons), min(ways, key=len, default=()))


def _preference(need: Need) -> Callable[[Host], tuple[bool, float, str]]:
    def key(host: Host) -> tuple[bool, float, str]:
        wasteful = need.gpus == 0 and bool(host.cards)
        return wasteful, host.load / max(len(host.cards), 1), host.name

    return key


def misfit(need: Need, name: str, labels: Mapping[str, str]) -> NoRoom | None:
    """Why a host of this name with these labels is not one it may go to; None when it is."""
    if need.hosts and name not in need.hosts:
        return NoRoom((f"Host {name} is not one of those it may go to: {', '.join(sorted(need.hosts))}.",))
    lacking = [f"{key}={value}" for key, value in need.labels.items() if labels.get(key) != value]
    return NoRoom((f"Host {name} is not labelled {', '.join(lacking)}.",)) if lacking else None


def on_host(need: Need, host: Host) -> Seats | NoRoom:
    """Seats on this host, or why not."""
    if host.fault:
        return NoRoom((host.fault,))
    refusal = misfit(need, host.name, host.labels)
    if refusal:
        return refusal
    answer = place(need, host.cards)
    if isinstance(answer, Seats) and host.memory and need.of_host(answer) > host.free:
        return _no_memory(need.of_host(answer), host)
    return answer


def _no_memory(wanted: int, host: Host) -> NoRoom:
    wish = f"It needs {gib(wanted)} of memory, and the host has"
    if wanted > host.memory:
        return NoRoom((f"{wish} {gib(host.memory)}.",))
    users = ", ".join(f"{name} holds {gib(size)}" for name, size in sorted(host.held.items()))
    in_the_way = tuple(sorted(_leaving(host.held, host.free, wanted)))
    stopping = f"It would fit if {' and '.join(in_the_way)} stopped."
    return NoRoom((f"{wish} {gib(host.free)} of {gib(host.memory)} free: {users}.", stopping), in_the_way)


def place(need: Need, cards: Sequence[Card]) -> Seats | NoRoom:
    """Seats on cards of one host; those of a replica on several cards are alike."""
    if not need.pinned and (need.gpus == 0 or (need.gpus is None and not cards)):
        return Seats({})
    usable = [card for card in cards if not card.missing and (not need.pinned or card.uuid in need.pinned)]
    counts = _counts(need, len(usable))
    for count in counts:
        chosen = _pick(need, usable, count)
        if chosen:
            return Seats(
                {card.uuid: need.claim(card.total, need.share(count, place)) for place, card in enumerate(chosen)}
            )
    count = counts[-1] if counts else need.gpus or 1
    return _refuse(need, cards, usable, count)


def _counts(need: Need, available: int) -> list[int]:
    """How many cards to try, fewest first."""
    wished = [need.gpus] if need.gpus else [1 << n for n in range(available.bit_length())]
    return [count for count in wished if _divides(need, count) and (not need.shares or count in need.shares)]


def _divides(need: Need, count: int) -> bool:
    return need.divides is None or need.divides % count == 0


def _pick(need: Need, usable: Sequence[Card], count: int) -> list[Card]:
    """The fullest cards that will do, so that large gaps stay whole; the emptiest to spread. Empty: not enough."""
    fitting = [card for card in usable if need.fits(card, need.largest(count))]
    candidates = []
    for alike in _alike(fitting) if count > 1 else [fitting]:
        order = sorted(alike, key=lambda card: (-card.free if need.spread else card.free, card.uuid))
        if len(order) >= count:
            candidates.append(sorted(order[:count], key=usable.index))
    pick = max if need.spread else min
    return pick(candidates, key=lambda chosen: sum(card.free for card in chosen), default=[]) or _in_order(
        need, usable, count
    )


def _in_order(need: Need, usable: Sequence[Card], count: int) -> list[Card]:
    """For unequal shares: cards alike that take them in the host's order, the first that can each time."""
    for alike in _alike(usable) if count > 1 else []:
        chosen: list[Card] = []
        for card in sorted(alike, key=usable.index):
            if len(chosen) < count and need.fits(card, need.share(count, len(chosen))):
                chosen.append(card)
        if len(chosen) == count:
            return chosen
    return []


def _alike(cards: Sequence[Card]) -> list[list[Card]]:
    def kind(card: Card) -> tuple[str, int]:
        return card.name, card.total

    return [list(group) for _, group in groupby(sorted(cards, key=kind), key=kind)]


def _refuse(need: Need, cards: Sequence[Card], usable: Sequence[Card], count: int) -> NoRoom:
    share = need.largest(count)
    reasons = [_wish(need, share, count)]
    if not _divides(need, count):
        reasons.append(f"Its {need.divides} attention heads cannot be divided over {count} GPUs.")
        return NoRoom(tuple(reasons))
    if not cards:
        reasons.append("This host has no GPU.")
    reasons += [f"There is no GPU {uuid} here." for uuid in sorted(need.pinned - {card.uuid for card in cards})]
    reasons += _card_by_card(need, cards, share)
    in_the_way = _in_the_way(need, usable, count, share)
    if in_the_way:
        reasons.append(f"It would fit if {' and '.join(in_the_way)} stopped.")
    return NoRoom(tuple(reasons), in_the_way)


def _wish(need: Need, share: int, count: int) -> str:
    where = f"{'each of ' if count > 1 else ''}{count} GPU{'s' if count > 1 else ''}"
    if need.fraction:
        return f"It claims {need.fraction:.0%} of {where}, and needs at least {gib(share)} there."
    return f"It needs {gib(share)} on {where}."


def _card_by_card(need: Need, cards: Sequence[Card], share: int) -> list[str]:
    """What keeps it from each card; what holds for several alike is said once."""
    found: dict[tuple[str, str], list[Card]] = {}
    for card in cards:
        found.setdefault((card.name, _why_not(need, card, share)), []).append(card)
    return [f"{_each(group)} {words}" for (_, words), group in found.items()]


def _each(cards: Sequence[Card]) -> str:
    labels = [card.label for card in cards]
    return labels[0] if len(labels) == 1 else f"Each of {', '.join(labels[:-1])} and {labels[-1]}"


def _why_not(need: Need, card: Card, least: int) -> str:
    share = need.claim(card.total, least)
    if need.pinned and card.uuid not in need.pinned:
        return "is not one of those it is pinned to."
    if card.missing:
        return "is gone."
    if card.total < share:
        return f"has only {gib(card.total)}."
    if share < least:
        return f"has {gib(card.total)}, and {need.fraction:.0%} of that are {gib(share)}."
    if need.fraction and card.free < share:
        return f"has {gib(card.free)} free, and its part would be {gib(share)}{_users(card)}."
    if card.free < share:
        return f"has {gib(card.free)} of {gib(card.total)} free{_users(card)}."
    return "would do, but too few like it are free."


def _users(card: Card) -> str:
    users = [f"{name} holds {gib(size)}" for name, size in sorted(card.held.items())]
    if card.foreign >= TRACE:
        who = f" (process {', '.join(map(str, card.pids))})" if card.pids and not card.held else ""
        users.append(f"{gib(card.foreign)} are used outside Cortex{who}")
    return f": {', '.join(users)}" if users else ""


def _in_the_way(need: Need, usable: Sequence[Card], count: int, share: int) -> tuple[str, ...]:
    """The fewest replicas whose end would make room on enough cards that are alike."""
    best: tuple[str, ...] = ()
    for alike in _alike(usable) if count > 1 else [list(usable)]:
        enough = [card for card in alike if share <= need.claim(card.total, share)]
        found = filter(None, (_way(card, need.claim(card.total, share)) for card in enough))
        ways = sorted(found, key=lambda way: (len(way[0]), way[1]))
        if len(ways) >= count:
            names = tuple(sorted(set().union(*(way[0] for way in ways[:count]))))
            best = min(filter(None, (best, names)), key=len, default=())
    return best


def _way(card: Card, share: int) -> tuple[frozenset[str], str] | None:
    """Who would have to leave this card, largest first; None when even that would not do."""
    gone = _leaving(card.held, card.free, share)
    return (gone, card.uuid) if card.free + sum(card.held[name] for name in gone) >= share else None


def _leaving(held: Mapping[str, int], free: int, wanted: int) -> frozenset[str]:
    """The largest holders, as many as it takes until so much is free."""
    gone: set[str] = set()
    for name, size in sorted(held.items(), key=lambda item: (-item[1], item[0])):
        if free >= wanted:
            break
        gone.add(name)
        free += size
    return frozenset(gone)
