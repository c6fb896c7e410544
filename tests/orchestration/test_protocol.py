"""The protocol of a start and a stop, every interleaving of it: two reconcilers, crashes anywhere, answers lost.

The advisory lock is left out: what must hold has to hold without it. Each state that can be reached is looked
at, and from each of them one reconciler, left alone, must arrive at what people want.
"""

from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, replace

import pytest

ORDERS = 3
CONTAINERS = 4
ALONE = 40


@dataclass(frozen=True)
class Rules:
    """What the protocol is made of; each can be taken out, and the checker has to notice."""

    reads_again: bool = True
    names_are_unique: bool = True
    free_is_guarded: bool = True
    adopts_only_its_turn: bool = True


@dataclass(frozen=True)
class Box:
    """A container. `turn` is on its label; `made_at` is what people's turn was when it came to be."""

    id: int
    turn: int
    made_at: int
    state: str = "created"


@dataclass(frozen=True)
class Hand:
    """A reconciler: where it is, and what it believes. The row it read, the container it saw."""

    at: str = "idle"
    turn: int = 0
    box: int = 0


@dataclass(frozen=True)
class State:
    turn: int = 1
    wanted: bool = True
    row_turn: int = 1
    seat: bool = False
    boxes: tuple[Box, ...] = ()
    made: int = 0
    hands: tuple[Hand, Hand] = (Hand(), Hand())
    broken: str = ""

    def box(self, id: int) -> Box | None:
        return next((box for box in self.boxes if box.id == id), None)

    def seen(self) -> Box | None:
        return self.boxes[0] if self.boxes else None

    def without(self, id: int) -> "State":
        return replace(self, boxes=tuple(box for box in self.boxes if box.id != id))

    def turned(self, id: int, state: str) -> "State":
        return replace(self, boxes=tuple(replace(b, state=state) if b.id == id else b for b in self.boxes))


def steps(state: State, hand: Hand, rules: Rules) -> Iterator[tuple[State, Hand]]:
    """What a reconciler may do next: a state after its step, and where it is then. Done is always idle."""
    if hand.at == "create":
        yield from _create(state, hand, rules)
    else:
        yield STEPS[hand.at](state, hand, rules)


def _read(state: State, hand: Hand, rules: Rules) -> tuple[State, Hand]:
    return replace(state, row_turn=max(state.row_turn, state.turn)), Hand("row", state.turn)


def _look(state: State, hand: Hand, rules: Rules) -> tuple[State, Hand]:
    box = state.seen()
    return state, replace(hand, at=_decide(state, hand, box, rules), box=box.id if box else 0)


def _take(state: State, hand: Hand, rules: Rules) -> tuple[State, Hand]:
    if state.row_turn != hand.turn:
        return state, Hand()
    return replace(state, seat=True), replace(hand, at="create")


def _check(state: State, hand: Hand, rules: Rules) -> tuple[State, Hand]:
    if rules.reads_again and (not state.wanted or state.turn != hand.turn):
        return state.without(hand.box), Hand()
    return state, replace(hand, at="start")


def _stop(state: State, hand: Hand, rules: Rules) -> tuple[State, Hand]:
    return state.turned(hand.box, "exited"), Hand()


def _remove(state: State, hand: Hand, rules: Rules) -> tuple[State, Hand]:
    return state.without(hand.box), Hand()


def _free(state: State, hand: Hand, rules: Rules) -> tuple[State, Hand]:
    mine = state.row_turn == hand.turn or not rules.free_is_guarded
    return replace(state, seat=False) if mine else state, Hand()


def _decide(state: State, hand: Hand, box: Box | None, rules: Rules) -> str:
    """The table of the house. What the hand knows of people's will is of its own turn: odd ones say run."""
    wanted = hand.turn % 2 == 1
    if box is None:
        return "take" if wanted else "free"
    if box.state == "exited" or (box.state == "created" and not wanted):
        return "remove"
    if box.state == "running":
        return "idle" if wanted else "stop"
    return "check" if box.turn == hand.turn or not rules.adopts_only_its_turn else "remove"


def _create(state: State, hand: Hand, rules: Rules) -> Iterator[tuple[State, Hand]]:
    if (state.boxes and rules.names_are_unique) or state.made == CONTAINERS:
        yield state, Hand()
        return
    box = Box(id=state.made + 1, turn=hand.turn, made_at=state.turn)
    after = replace(state, boxes=(*state.boxes, box), made=box.id)
    yield after, replace(hand, at="check", box=box.id)
    yield after, Hand()  # its answer is lost


def _start(state: State, hand: Hand, rules: Rules) -> tuple[State, Hand]:
    box = state.box(hand.box)
    if box is None or box.state != "created":
        return state, Hand()
    late = f"started for turn {hand.turn}, when turn {box.made_at} was known" if box.made_at > hand.turn else ""
    return replace(state.turned(box.id, "running"), broken=late), Hand()


STEPS = {
    "idle": _read,
    "row": _look,
    "take": _take,
    "check": _check,
    "start": _start,
    "stop": _stop,
    "remove": _remove,
    "free": _free,
}


def people(state: State) -> Iterator[State]:
    if state.turn <= ORDERS:
        yield replace(state, turn=state.turn + 1, wanted=not state.wanted)


def following(state: State, rules: Rules) -> Iterator[State]:
    yield from people(state)
    for which, hand in enumerate(state.hands):
        for after, now in steps(state, hand, rules):
            yield _with(after, which, now)
        if hand.at != "idle":
            yield _with(state, which, Hand())  # it dies here


def _with(state: State, which: int, hand: Hand) -> State:
    hands = (hand, state.hands[1]) if which == 0 else (state.hands[0], hand)
    return replace(state, hands=hands)


def fault(state: State) -> str:
    """What must not be."""
    running = [box for box in state.boxes if box.state == "running"]
    if len(running) > 1:
        return "two containers run for one replica"
    if running and not state.seat:
        return "a container runs without its seat"
    return state.broken


def left_alone(state: State, rules: Rules) -> str:
    """What is wrong after one reconciler had time, nobody else moved and no answer was lost."""
    state, hand = replace(state, hands=(Hand(), Hand())), Hand()
    for _ in range(ALONE):
        state, hand = next(steps(state, hand, rules))
    running = any(box.state == "running" for box in state.boxes)
    if state.made < CONTAINERS and running != state.wanted:
        return "it does not arrive at what people want"
    return "" if state.wanted or (not state.seat and not state.boxes) else "something is left of a stopped replica"


def search(rules: Rules) -> tuple[int, str]:
    """How many states there are, and the first thing wrong in any of them."""
    start = State()
    known, waiting = {start}, deque([start])
    while waiting:
        state = waiting.popleft()
        wrong = fault(state) or left_alone(state, rules)
        if wrong:
            return len(known), wrong
        for after in following(state, rules):
            if after not in known:
                known.add(after)
                waiting.append(after)
    return len(known), ""


def test_nothing_goes_wrong_however_it_interleaves() -> None:
    count, wrong = search(Rules())
    assert wrong == ""
    assert count > 10_000


@pytest.mark.parametrize(
    ("rules", "finds"),
    [
        (Rules(reads_again=False), "started for turn"),
        (Rules(names_are_unique=False), "two containers run"),
        (Rules(free_is_guarded=False), "without its seat"),
        (Rules(adopts_only_its_turn=False), "without its seat"),
    ],
)
def test_what_is_taken_out_is_missed(rules: Rules, finds: str) -> None:
    assert finds in search(rules)[1]
