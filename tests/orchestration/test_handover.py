"""The protocol of a handover, every interleaving of it: people edit and drain, one hand on each of the two replicas.

Each hand reads, and acts later upon what it read; it may die in between. In every state somebody serves, and from
every state the two hands, left alone, arrive at one replica of what people want, off the host that they want empty.
"""

from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, replace

import pytest

EDITS, DRAINS = 3, 3
ALONE = 30


@dataclass(frozen=True)
class Rules:
    """What the protocol is made of; each can be taken out, and the checker has to notice."""

    retire_looks_again: bool = True
    yield_looks_again: bool = True
    waits_until_it_serves: bool = True
    is_called_back: bool = True


@dataclass(frozen=True)
class Row:
    """A replica that `runs` a definition; `off` when it is called off, `steps_aside` while it is to start anew."""

    runs: str
    ready: bool = False
    off: bool = False
    steps_aside: bool = False
    moved: bool = False

    @property
    def serves(self) -> bool:
        return self.ready and not self.off and not self.steps_aside


@dataclass(frozen=True)
class State:
    """`old` is the replica of the slot, `new` the one that is to take its place; `gone` is off and not gone yet."""

    wants: str = "a"
    drained: bool = False
    old: Row = Row("a", ready=True)
    new: Row | None = None
    gone: bool = False
    plans: tuple[str, str] = ("", "")
    edits: int = 0
    drains: int = 0


def stale(state: State, row: Row) -> bool:
    return row.runs != state.wants


def decide_old(state: State, rules: Rules) -> str:
    """The table, for the one that has the slot."""
    old, new = state.old, state.new
    if not old.ready:
        return "load"
    if stale(state, old) or (state.drained and not old.moved):
        if new is None:
            return "" if state.gone else "make"
        serving = (new.serves and not stale(state, new)) or not rules.waits_until_it_serves
        return "retire" if serving else ""
    return "recall" if new and rules.is_called_back else ""


def decide_new(state: State, rules: Rules) -> str:
    """The same for its successor."""
    new = state.new
    if new is None:
        return ""
    if not new.ready:
        return "renew" if stale(state, new) or new.steps_aside else "load"
    if new.steps_aside:
        return "renew"
    return "yield" if stale(state, new) and state.old.serves else ""


def act_old(state: State, plan: str, rules: Rules) -> State:
    old, new = state.old, state.new
    match plan:
        case "load":
            return replace(state, old=Row(state.wants, ready=True, moved=old.moved))
        case "make" if new is None and not state.gone:
            return replace(state, new=Row(state.wants, moved=True))
        case "recall":
            return replace(state, new=None)
        case "retire" if new and (not rules.retire_looks_again or (new.serves and not stale(state, new))):
            return replace(state, old=new, new=None, gone=True)
        case "retire" if new and not rules.waits_until_it_serves:
            return replace(state, old=new, new=None, gone=True)
    return state


def act_new(state: State, plan: str, rules: Rules) -> State:
    new = state.new
    if new is None:  # it has the slot by now: what was decided for it is done to that
        late = plan == "yield" and not rules.yield_looks_again
        return replace(state, old=replace(state.old, ready=False)) if late and state.gone else state
    match plan:
        case "load":
            return replace(state, new=replace(new, ready=not stale(state, new)))
        case "renew":
            return replace(state, new=Row(state.wants, moved=True))
        case "yield" if state.old.serves or not rules.yield_looks_again:
            return replace(state, new=replace(new, steps_aside=True))
    return state


def people(state: State) -> Iterator[State]:
    if state.edits < EDITS:
        yield from (replace(state, wants=word, edits=state.edits + 1) for word in "abc" if word != state.wants)
    if state.drains < DRAINS:
        yield replace(state, drained=not state.drained, drains=state.drains + 1)


def following(state: State, rules: Rules) -> Iterator[State]:
    yield from people(state)
    mine, its = state.plans
    yield replace(state, plans=(decide_old(state, rules), its))
    yield replace(state, plans=(mine, decide_new(state, rules)))
    yield replace(act_old(state, mine, rules), plans=("", its))
    yield replace(act_new(state, its, rules), plans=(mine, ""))
    if state.gone:
        yield replace(state, gone=False)
    if state.new and not state.new.ready and not stale(state, state.new):
        yield replace(state, new=replace(state.new, ready=False))  # it fails, and is tried again


def fault(state: State) -> str:
    serves = state.old.serves or (state.new is not None and state.new.serves)
    return "" if serves else "nobody serves"


def left_alone(state: State, rules: Rules) -> str:
    """What is wrong after both hands had time and nobody else moved."""
    for _ in range(ALONE):
        state = replace(act_old(state, decide_old(state, rules), rules), gone=False)
        state = act_new(state, decide_new(state, rules), rules)
    if state.new is not None:
        return "two are left"
    if stale(state, state.old):
        return "it is not what people want"
    return "it has not left" if state.drained and not state.old.moved else ""


def search(rules: Rules) -> tuple[int, str]:
    """How many states there are, and the first thing wrong in any of them."""
    known, waiting = {State()}, deque([State()])
    while waiting:
        state = waiting.popleft()
        wrong = fault(state) or left_alone(state, rules)
        if wrong:
            return len(known), f"{wrong}: {state}"
        for after in following(state, rules):
            if after not in known:
                known.add(after)
                waiting.append(after)
    return len(known), ""


def test_somebody_serves_however_it_interleaves() -> None:
    count, wrong = search(Rules())
    assert wrong == ""
    assert count > 1_000


@pytest.mark.parametrize(
    ("rules", "finds"),
    [
        (Rules(retire_looks_again=False), "nobody serves"),
        (Rules(yield_looks_again=False), "nobody serves"),
        (Rules(waits_until_it_serves=False, retire_looks_again=False), "nobody serves"),
        (Rules(is_called_back=False), "two are left"),
    ],
)
def test_what_is_taken_out_is_missed(rules: Rules, finds: str) -> None:
    assert finds in search(rules)[1]
