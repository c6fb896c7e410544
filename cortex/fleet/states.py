"""The state table: what a host shows, what people want, what to do next. Pure."""

from dataclasses import dataclass
from enum import StrEnum


class Observed(StrEnum):
    """What the host shows of a replica."""

    ABSENT = "absent"
    FETCHING = "fetching"
    LOADING = "loading"
    READY = "ready"
    UNRESPONSIVE = "unresponsive"
    STOPPING = "stopping"
    EXITED = "exited"
    UNKNOWN = "unknown"


class Step(StrEnum):
    """The next thing to do about a replica."""

    NOTHING = "nothing"
    WAIT = "wait"
    START = "start"
    STOP = "stop"
    DRAIN = "drain"
    KILL = "kill"
    RESTART = "restart"
    REMOVE = "remove"
    REPLACE = "replace"
    RETIRE = "retire"
    RECALL = "recall"
    YIELD = "yield"
    MOVE = "move"
    LEAVE = "leave"


class Successor(StrEnum):
    """How far the replica that is to take this one's place has come."""

    NONE = "none"
    COMING = "coming"
    SERVING = "serving"


@dataclass(frozen=True)
class Facts:
    """What decides besides the observation.

    `wanted`: people want it running. `held`: not before a time (backoff), or given up until people change
    something. `stale`: what runs is not what people want now. `overdue`: its deadline or grace has passed.
    `successor`: the replica of what people want now, made beside one that serves the earlier definition, or whose
    host is drained. `spare`: it is itself to replace one, which serves still. `leaving`: its host is drained.
    `barred`: its host takes nothing new, and holds no place for it.
    """

    wanted: bool
    held: bool = False
    stale: bool = False
    overdue: bool = False
    successor: Successor = Successor.NONE
    spare: bool = False
    leaving: bool = False
    barred: bool = False


def next_step(observed: Observed, facts: Facts) -> Step:
    """The table of the house, line by line."""
    match observed:
        case Observed.UNKNOWN:
            return Step.WAIT
        case Observed.EXITED:
            return Step.REMOVE
        case Observed.STOPPING:
            return Step.KILL if facts.overdue else Step.WAIT
        case Observed.ABSENT:
            return _when_absent(facts)
    if not facts.wanted:
        return Step.DRAIN if observed is Observed.READY else Step.STOP
    return _when_alive(observed, facts)


def _when_absent(facts: Facts) -> Step:
    if not facts.wanted:
        return Step.NOTHING
    if facts.successor is not Successor.NONE:
        return Step.RETIRE
    if facts.held:
        return Step.WAIT
    return Step.LEAVE if facts.leaving or facts.barred else Step.START


def _when_alive(observed: Observed, facts: Facts) -> Step:
    if facts.successor is Successor.SERVING and observed is not Observed.READY:
        return Step.RETIRE
    if facts.stale:
        return _when_stale(facts) if observed is Observed.READY else Step.STOP
    if facts.leaving and observed is not Observed.UNRESPONSIVE:
        return _when_leaving(observed, facts)
    match observed:
        case Observed.READY:
            return Step.NOTHING if facts.successor is Successor.NONE else Step.RECALL
        case Observed.UNRESPONSIVE:
            return Step.RESTART
        case _:
            return Step.STOP if facts.overdue else Step.WAIT


def _when_stale(facts: Facts) -> Step:
    """The earlier definition serves until the new one does; of two earlier ones, the first."""
    return Step.YIELD if facts.spare else _until_it_serves(facts.successor, Step.REPLACE)


def _when_leaving(observed: Observed, facts: Facts) -> Step:
    """It stays until another serves elsewhere; what nobody would miss goes at once."""
    if observed is Observed.FETCHING or (observed is Observed.LOADING and (facts.spare or facts.overdue)):
        return Step.STOP
    return _until_it_serves(facts.successor, Step.MOVE)


def _until_it_serves(successor: Successor, first: Step) -> Step:
    match successor:
        case Successor.SERVING:
            return Step.RETIRE
        case Successor.COMING:
            return Step.WAIT
    return first


class Phase(StrEnum):
    """A word for eyes."""

    QUEUED = "queued"
    FETCHING = "fetching"
    LOADING = "loading"
    SERVING = "serving"
    DRAINING = "draining"
    STOPPED = "stopped"
    FAILING = "failing"
    UNKNOWN = "unknown"


def phase(observed: Observed, *, wanted: bool, failures: int) -> Phase:
    """The word people see for a replica."""
    match observed:
        case Observed.UNKNOWN:
            return Phase.UNKNOWN
        case Observed.READY:
            return Phase.SERVING if wanted else Phase.DRAINING
        case Observed.UNRESPONSIVE:
            return Phase.FAILING
        case Observed.STOPPING:
            return Phase.DRAINING
    if not wanted:
        return Phase.STOPPED if observed is Observed.ABSENT else Phase.DRAINING
    if failures and observed in (Observed.ABSENT, Observed.EXITED):
        return Phase.FAILING
    return {Observed.FETCHING: Phase.FETCHING, Observed.LOADING: Phase.LOADING}.get(observed, Phase.QUEUED)
