"""The faults that Cortex must outlive: what is done to it, and what must come of it."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Fault:
    """One row. `every_change`: its tests run with every change, the others' with `--faults`.

    `impossible` says why it cannot be produced here; such a row has no test.
    """

    number: int
    title: str
    expected: str
    every_change: bool = False
    impossible: str = ""


NOT_YET = "Its test is not written yet."

ROWS = (
    Fault(
        1,
        "A worker or agent is killed before or after any effect of a start",
        "The next one converges: one container, its seats and no others, and attempts that explain it.",
        every_change=True,
    ),
    Fault(
        2,
        "The same during a stop, a deletion, an edit, a drain",
        "It ends stopped, gone, changed or elsewhere; seats are freed once; nothing comes back to life.",
        every_change=True,
    ),
    Fault(
        3,
        "The answer to a create is lost",
        "The container is adopted by its name: no second one, and no error for people.",
        every_change=True,
    ),
    Fault(
        4,
        "The answer to a start is lost",
        "It is seen running and goes on; the attempt counts once.",
        every_change=True,
    ),
    Fault(
        5,
        "The answer to a remove is lost",
        "That it is gone when asked again is success.",
        every_change=True,
    ),
    Fault(
        6,
        "Two processes reconcile one replica at once, without the lock",
        "Docker's name lets one create through; the other adopts or leaves. No container is killed by either.",
        every_change=True,
    ),
    Fault(
        7,
        "Somebody orders start and stop fifty times in a row, stop last",
        "It is stopped within its grace, and no container is left.",
        every_change=True,
    ),
    Fault(
        8,
        "Stop is ordered during a pull, a create, a load",
        "Nothing starts; the seat is freed; people see it stopping at once.",
        every_change=True,
    ),
    Fault(
        9,
        "Docker freezes: calls are taken and never answered",
        "Every call ends in time; replicas are unknown, not failed; seats are kept; the doors answer within 500 ms.",
    ),
    Fault(
        10,
        "Docker is restarted, without and with live-restore",
        "Without: what ended is started again, one launch at a time on a card. With: nothing is restarted.",
    ),
    Fault(
        11,
        "The event stream ends, hangs half open, or 300 events pass unheard",
        "Everything is looked at on the next connection; nothing is missed.",
    ),
    Fault(
        12,
        "Somebody kills, removes, pauses, renames, updates or reconnects a container by hand",
        "Seen by the next look: killed and removed ones return, paused ones are replaced, renamed ones are ours still.",
    ),
    Fault(
        13,
        "A foreign container has our name, or our labels with another install's id",
        "Said clearly; it is not touched; other models are not affected.",
        every_change=True,
    ),
    Fault(
        14,
        "Two installations share one Docker Engine",
        "Neither sees or touches what is the other's.",
    ),
    Fault(
        15,
        "The database is restored from an older backup while containers run",
        "Containers that no row claims are listed, and stay until an administrator confirms.",
    ),
    Fault(
        16,
        "The list of what people want comes back empty, or not at all",
        "Nothing is removed: absence from a list is no proof.",
        every_change=True,
    ),
    Fault(
        17,
        "An engine that exits at once, for ever",
        "Tried after 10 s, 20 s, 40 s … 300 s, kept over restarts of everything; forgiven after ten minutes of ready.",
        every_change=True,
    ),
    Fault(
        18,
        "A definition that cannot work: an unknown flag, a missing file",
        "Two tries, then it waits for people, with the very line of the log.",
        every_change=True,
    ),
    Fault(
        19,
        "A child of the engine runs out of memory; the engine itself does; somebody kills it from outside",
        "Three different reasons.",
        every_change=True,
    ),
    Fault(
        20,
        "An engine ignores TERM",
        "KILL after its grace; the whole takes no longer; the seat is freed once the end was seen.",
        every_change=True,
    ),
    Fault(
        21,
        "A container that cannot be killed: stop and kill are never answered",
        "Said to be stuck, its cards cordoned, tried again at intervals; other replicas are not held up.",
    ),
    Fault(
        22,
        "An engine hangs: /health answers 200, and no token comes",
        "Doubted by what no request got, judged by its pulse, and replaced. A busy engine is left alone.",
    ),
    Fault(
        23,
        "An engine loads for ten minutes",
        "Not restarted while it shows progress; when it shows none, the reason says how long it was given.",
    ),
    Fault(
        24,
        "The health endpoint dribbles, floods, or redirects",
        "A bounded read in a bounded time, no redirect followed, no memory taken.",
    ),
    Fault(
        25,
        "Fifty threads place ten exclusive replicas on four cards",
        "Four are placed, six wait; no card is promised twice, and no error is shown.",
        every_change=True,
    ),
    Fault(
        26,
        "A card is lost, the driver hangs or does not match",
        "The card is not used; samples are bounded in time and marked old; what runs is judged by its probes.",
    ),
    Fault(
        27,
        "Cards change their order, or one is exchanged",
        "Seats stay with their UUIDs; a card that is gone is said to be missing; nothing moves in silence.",
    ),
    Fault(
        28,
        "Docker's GPU hook is missing, fails, or is slow",
        "The host's condition; replicas wait, and their backoff is not burnt.",
    ),
    Fault(
        29,
        "A foreign process takes memory of a card",
        "Placement counts the larger of promised and seen; the process is named.",
    ),
    Fault(
        30,
        "PostgreSQL is restarted, or its connections are cut",
        "Locks go with their holders; containers serve on, none is doubled; the doors recover within 10 s.",
    ),
    Fault(
        31,
        "PostgreSQL is slow, locked, or has no connection left",
        "Timeouts and no pile-up; what runs is not affected.",
    ),
    Fault(
        32,
        "Redis is down, silent, emptied, or restarted in the middle of a task",
        "The doors answer within 3 s and the order is kept; the agent converges without it; all recovers by itself.",
    ),
    Fault(
        33,
        "Messages come a hundred times, out of order, a week late",
        "Nothing is done beyond the first.",
        every_change=True,
    ),
    Fault(
        34,
        "A task runs longer than the broker waits",
        "The second delivery gets no lock and leaves: one effect.",
        every_change=True,
    ),
    Fault(
        35,
        "A task that ends its worker each time",
        "After the third it is parked with a reason that people see; others go on.",
    ),
    Fault(
        36,
        "A worker hangs, or takes no messages after a reconnect",
        "Seen by its silence; the agent does its work; the supervisor restarts it.",
    ),
    Fault(
        37,
        "Two agents and two beats",
        "No effect is doubled; when one is killed the other carries on.",
    ),
    Fault(
        38,
        "The clock of a process is two hours off, or jumps back",
        "Backoff and leases go by the database's clock: nothing restarts, no time is negative.",
    ),
    Fault(
        39,
        "A disk is full: models, Docker's, the database's, the log's",
        "A clear reason; what arrived is resumed and never served half; it recovers without a restart.",
    ),
    Fault(
        40,
        "The agent has no file descriptors left",
        "New streams are refused; the loop goes on.",
    ),
    Fault(
        41,
        "A pull meets 401, 404, 429, an error in the middle, a hang, a wrong digest",
        "Told apart, tried again where that helps; an error inside an answer of 200 is seen; cancelling works.",
    ),
    Fault(
        42,
        "A broken file is loaded without a network: truncated, wrong machine, a bomb, a taken name",
        "Refused before use; what was there is left as it was.",
        impossible="Cortex has no such door: images come from a registry, or by `docker load` on the host.",
    ),
    Fault(
        43,
        "An engine floods its log: 100 MB/s, a line of 1 GB, bytes that are no text",
        "Capped, cleaned, memory flat; other logs are not held up.",
    ),
    Fault(
        44,
        "A port is taken by somebody else",
        "Another port; nothing is left of the failed try.",
        every_change=True,
    ),
    Fault(
        45,
        "The host reboots, and everything starts in any order",
        "It converges; nothing is removed before what people want is known.",
    ),
    Fault(
        46,
        "A new version starts on the rows and containers of the old one",
        "What runs is adopted and not restarted.",
    ),
    Fault(
        47,
        "A Docker Engine that is older or newer than known",
        "The API is negotiated; one that is too old is the host's condition.",
    ),
    Fault(
        48,
        "A key or a role is taken away during a stream",
        "The next request is refused; watching ends within 30 s.",
    ),
    Fault(
        49,
        "A definition that wants out: arguments, environment, paths, mounts, images",
        "Refused when it is saved, and again by the host when it was put into the database directly.",
        every_change=True,
    ),
    Fault(
        50,
        "A model is deleted while its host is silent",
        "Its row stays until the host confirms; the seat is kept; people see what it waits for.",
    ),
)
FAULTS = {row.number: row for row in ROWS}
