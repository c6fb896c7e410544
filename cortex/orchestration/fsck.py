"""What always holds, as queries: each line of the house, and what the containers of a host say against the rows."""

from collections import defaultdict
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta

from django.conf import settings
from django.db import connection
from django.db.models import Count, F, Q, Sum
from django.db.models.functions import Coalesce

from cortex.catalog.models import Desired
from cortex.fleet import clock
from cortex.fleet.models import BACKOFF_CAP, Attempt, Gpu, Host, Install, Replica, Seat
from cortex.fleet.states import Observed
from cortex.orchestration import drains
from cortex.orchestration.settle import unsettled
from cortex.orchestration.stopping import DRAIN_FOR
from cortex.orchestration.work import replica_of
from cortex.runtime.contract import Container, Label, Runtime, State

GRACE = timedelta(minutes=1)
IN_TRANSACTION = 5
CHANGES_A_MINUTE = 40
ALIVE = (State.RUNNING, State.PAUSED)
SERVING = (Observed.READY, Observed.UNRESPONSIVE)
THERE = (*SERVING, Observed.LOADING, Observed.STOPPING, Observed.UNKNOWN)


@dataclass(frozen=True)
class Violation:
    """A line of `What always holds` that does not, and where."""

    rule: int
    what: str

    def __str__(self) -> str:
        return f"rule {self.rule}: {self.what}"


def rows() -> list[Violation]:
    """What the database alone can tell, of every host."""
    return [violation for check in ROWS for violation in check()]


def containers(host: Host, runtime: Runtime) -> list[Violation]:
    """What the containers of a host say against the rows. Raises Unreachable."""
    found = runtime.find()
    return [violation for check in CONTAINERS for violation in check(host, found)] + list(_taken_names(host, runtime))


def _orders_are_taken_up() -> Iterator[Violation]:
    late = clock.now() - GRACE
    behind = Replica.objects.filter(host__in=Host.objects.answering(), model__updated_at__lt=late)
    for replica in behind.exclude(turn=F("model__turn")).select_related("model", "host"):
        yield Violation(1, f"{replica} is at turn {replica.turn}, its model at {replica.model.turn} since a minute.")
    mismatched = ~Q(rows=F("replicas"), removed_at=None) & Q(updated_at__lt=late)
    for model in unsettled().filter(mismatched):
        held = model.replica_set.exclude(observed=Observed.ABSENT, host__isnull=False)
        if model.replica_set.count() < model.replicas or not held.exists():
            yield Violation(1, f"{model} has {model.replica_set.count()} rows for {model.replicas} replicas.")


def _nothing_starts_where_all_is_to_leave() -> Iterator[Violation]:
    late = F("replica__host__draining_since") + GRACE
    begun = Attempt.objects.filter(ended_at=None, started_at__gt=late).select_related("replica__model", "replica__host")
    for attempt in begun:
        if drains.is_leaving(attempt.replica):
            yield Violation(1, f"{attempt} started on {attempt.replica.host} after people had it drained.")


def _seats_add_up() -> Iterator[Violation]:
    for card in Gpu.objects.annotate(promised=Coalesce(Sum("seats__bytes"), 0)).exclude(promised=F("reserved")):
        yield Violation(3, f"{card}: {card.reserved} bytes are reserved, its seats are {card.promised}.")
    for gpu in Gpu.objects.filter(Q(reserved__gt=F("total")) | Q(reserved__lt=0)):
        yield Violation(3, f"{gpu}: {gpu.reserved} of {gpu.total} bytes are reserved.")
    held = Host.objects.annotate(held=Coalesce(Sum("replicas__memory"), 0)).exclude(held=F("reserved"))
    for name, reserved, promised in held.values_list("name", "reserved", "held"):
        yield Violation(3, f"{name}: {reserved} bytes of memory are reserved, its replicas hold {promised}.")


def _seats_have_a_reason() -> Iterator[Violation]:
    """A seat of what is absent, with no attempt open or just ended, is leaked, where the loop can look."""
    late, looked_at = clock.now() - GRACE, Host.objects.answering().filter(condition="")
    idle = Seat.objects.filter(replica__observed=Observed.ABSENT, replica__host__in=looked_at)
    idle = idle.filter(Q(replica__observed_at=None) | Q(replica__observed_at__lt=late))
    tried = Attempt.objects.filter(Q(ended_at=None) | Q(ended_at__gt=late))
    for seat in idle.exclude(replica__in=tried.values("replica")).select_related("replica__model", "gpu"):
        yield Violation(3, f"{seat} is held, and nothing of it is there.")
    for seat in Seat.objects.exclude(replica__host=F("gpu__host")).select_related("replica__model"):
        yield Violation(3, f"{seat}: the card is on another host than the replica.")


def _what_was_not_seen_gone_keeps_its_seats() -> Iterator[Violation]:
    there = Attempt.objects.filter(ended_at=None, replica__observed__in=THERE, started_at__isnull=False)
    for attempt in there.select_related("replica__model"):
        replica = attempt.replica
        if set(attempt.spec.get("gpus", [])) - _seated(replica):
            rule = 4 if replica.observed == Observed.UNKNOWN else 3
            yield Violation(rule, f"{replica} is {replica.observed}, and its seats were given away.")


def _turns_only_grow() -> Iterator[Violation]:
    for replica in Replica.objects.filter(turn__gt=F("model__turn")).select_related("model"):
        yield Violation(6, f"{replica} is at turn {replica.turn}, which people have not ordered yet.")
    newer = Q(turn__gt=F("replica__turn")) | Q(confirmed_turn__gt=F("replica__turn"))
    newer &= Q(ended_at=None)  # who takes a slot over has its history from another row
    wrong = newer | Q(confirmed_turn__lt=F("turn"))
    for attempt in Attempt.objects.filter(wrong).select_related("replica__model"):
        yield Violation(6, f"{attempt} is of turn {attempt.turn}, its replica at {attempt.replica.turn}.")


def _failures_wait() -> Iterator[Violation]:
    for replica in Replica.objects.filter(failures__gt=0, retry_at=None).select_related("model"):
        yield Violation(8, f"{replica} failed {replica.failures} times and waits for no time.")
    longest = clock.now() + BACKOFF_CAP + GRACE
    for replica in Replica.objects.filter(retry_at__gt=longest).select_related("model"):
        yield Violation(8, f"{replica} waits until {replica.retry_at}, which is longer than any backoff.")


def _nothing_comes_from_the_future() -> Iterator[Violation]:
    """Times are those of PostgreSQL's clock, whatever a host takes for now."""
    later = clock.now() + GRACE
    ahead = Q(observed_at__gt=later) | Q(draining_at__gt=later) | Q(attempts__queued_at__gt=later)
    for replica in Replica.objects.filter(ahead).select_related("model").distinct():
        yield Violation(8, f"Something of {replica} is dated in the future: it was written by another clock.")


def _nothing_flaps() -> Iterator[Violation]:
    recent = Q(transitions__at__gt=clock.now() - GRACE)
    busy = Replica.objects.annotate(changes=Count("transitions", filter=recent)).filter(changes__gt=CHANGES_A_MINUTE)
    for replica in busy.select_related("model"):
        yield Violation(9, f"{replica} changed more than {CHANGES_A_MINUTE} times within a minute.")


def _transitions_tell_the_state() -> Iterator[Violation]:
    for replica in Replica.objects.select_related("model"):
        last = replica.transitions.first()
        if (last.new if last else Observed.ABSENT) != replica.observed:
            yield Violation(6, f"{replica} is {replica.observed}; its last transition does not say so.")


def _one_launch_a_card() -> Iterator[Violation]:
    starting = Seat.objects.filter(launching=True, replica__attempts__ended_at=None, replica__attempts__ready_at=None)
    by_card: dict[str, list[str]] = defaultdict(list)
    for seat in starting.select_related("replica__model"):
        by_card[seat.gpu_id].append(str(seat.replica))
    for uuid, names in by_card.items():
        if len(names) > 1:
            yield Violation(10, f"{' and '.join(names)} start at the same time on {uuid}.")


def _no_secret_is_kept() -> Iterator[Violation]:
    file = settings.ENV.cortex_hub_token_file
    token = file.read_text().strip() if file and file.exists() else ""
    if not token:
        return
    told = Q(spec__icontains=token) | Q(first_log__contains=token) | Q(last_log__contains=token)
    told |= Q(reason__contains=token) | Q(remedy__contains=token)
    for attempt in Attempt.objects.filter(told).select_related("replica__model"):
        yield Violation(11, f"The hub's token is written in {attempt}.")
    said = Q(reason__contains=token) | Q(transitions__reason__contains=token)
    for replica in Replica.objects.filter(said).select_related("model").distinct():
        yield Violation(11, f"The hub's token is written in what is told of {replica}.")


def _no_call_inside_a_transaction() -> Iterator[Violation]:
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT pid, extract(epoch FROM clock_timestamp() - state_change)::int FROM pg_stat_activity"
            " WHERE datname = current_database() AND pid <> pg_backend_pid() AND state LIKE 'idle in transaction%%'"
            " AND clock_timestamp() - state_change > %s * interval '1 second'",
            [IN_TRANSACTION],
        )
        for pid, seconds in cursor.fetchall():
            yield Violation(12, f"Session {pid} keeps a transaction open for {seconds} s and asks nothing.")


def _one_container_each(host: Host, found: list[Container]) -> Iterator[Violation]:
    by_replica: dict[object, list[str]] = defaultdict(list)
    for container in found:
        if container.state in ALIVE:
            by_replica[replica_of(container)].append(container.name)
    for names in by_replica.values():
        if len(names) > 1:
            yield Violation(2, f"{' and '.join(names)} are alive for the same replica.")


def _names_are_the_fence(host: Host, found: list[Container]) -> Iterator[Violation]:
    for container, replica in _replicas(host, found):
        if container.state in ALIVE and container.name != replica.container_name:
            yield Violation(2, f"{replica} runs as {container.name}, so that nothing forbids a second container of it.")


def _every_container_is_claimed(host: Host, found: list[Container]) -> Iterator[Violation]:
    claims = {str(id) for id in Replica.objects.filter(host=host).values_list("id", flat=True)}
    for container in found:
        if str(replica_of(container)) not in claims:
            yield Violation(2, f"Nobody claims container {container.name} on {host}.")


def _live_containers_have_attempts(host: Host, found: list[Container]) -> Iterator[Violation]:
    attempts = {a.replica_id: a for a in Attempt.objects.filter(replica__host=host, ended_at=None)}
    for container in found:
        replica = replica_of(container)
        attempt = attempts.get(replica) if replica else None
        number = str(attempt.number) if attempt else ""
        if container.state in ALIVE and container.labels.get(Label.ATTEMPT) != number:
            yield Violation(2, f"Container {container.name} runs, and no open attempt is about it.")


def _live_containers_have_seats(host: Host, found: list[Container]) -> Iterator[Violation]:
    for container, replica in _replicas(host, found):
        lacking = set(container.gpus) - _seated(replica)
        if container.state in ALIVE and lacking:
            yield Violation(3, f"{replica} runs on {', '.join(sorted(lacking))} without a seat.")


def _what_is_shown_is_there(host: Host, found: list[Container]) -> Iterator[Violation]:
    running = {replica_of(container) for container in found if container.state in ALIVE}
    old = Q(observed_at__lt=clock.now() - GRACE)
    for replica in Replica.objects.filter(old, host=host, observed__in=SERVING).select_related("model"):
        if replica.id not in running:
            yield Violation(1, f"{replica} is said to be {replica.observed}, and no container of it runs.")


def _what_is_stopped_is_stopped(host: Host, found: list[Container]) -> Iterator[Violation]:
    late = clock.now() - GRACE
    for container, replica in _replicas(host, found):
        unwanted = container.state in ALIVE and not replica.wanted and replica.model.updated_at < late
        if unwanted and not _is_on_its_way_out(replica, late):
            yield Violation(5, f"{replica} runs, and people do not want it to since more than a minute.")


def _is_on_its_way_out(replica: Replica, late: datetime) -> bool:
    """Draining or stopping, for no longer than that may take; or on a host that cannot be asked."""
    if replica.observed == Observed.STOPPING and replica.observed_at:
        attempt = replica.attempts.filter(ended_at=None).first()
        grace = float(attempt.spec.get("stop_grace", 0)) if attempt else 0.0
        return replica.observed_at > late - timedelta(seconds=grace)
    drains = replica.draining_at is not None and replica.draining_at > late - DRAIN_FOR
    return drains or replica.observed == Observed.UNKNOWN


def _labels_tell_no_more(host: Host, found: list[Container]) -> Iterator[Violation]:
    known = {label.value for label in Label}
    for container in found:
        more = sorted(name for name in container.labels if name.startswith("cortex.") and name not in known)
        if more:
            yield Violation(11, f"Container {container.name} has labels we do not write: {', '.join(more)}.")


def _taken_names(host: Host, runtime: Runtime) -> Iterator[Violation]:
    wanted = Replica.objects.filter(host=host, model__desired=Desired.RUNNING, observed=Observed.ABSENT)
    for replica in wanted.select_related("model"):
        found = runtime.inspect(replica.container_name)
        if found and found.labels.get(Label.INSTALL) != Install.identity():
            yield Violation(7, f"A container that is not ours bears the name {found.name}: it is left alone.")


def _replicas(host: Host, found: list[Container]) -> Iterator[tuple[Container, Replica]]:
    rows = {replica.id: replica for replica in Replica.objects.filter(host=host).select_related("model")}
    for container in found:
        replica = replica_of(container)
        if replica in rows:
            yield container, rows[replica]


def _seated(replica: Replica) -> set[str]:
    return set(replica.seats.values_list("gpu_id", flat=True))


ROWS: list[Callable[[], Iterator[Violation]]] = [
    _orders_are_taken_up,
    _nothing_starts_where_all_is_to_leave,
    _seats_add_up,
    _seats_have_a_reason,
    _what_was_not_seen_gone_keeps_its_seats,
    _turns_only_grow,
    _transitions_tell_the_state,
    _failures_wait,
    _nothing_comes_from_the_future,
    _nothing_flaps,
    _one_launch_a_card,
    _no_secret_is_kept,
    _no_call_inside_a_transaction,
]
CONTAINERS: list[Callable[[Host, list[Container]], Iterator[Violation]]] = [
    _one_container_each,
    _names_are_the_fence,
    _every_container_is_claimed,
    _live_containers_have_attempts,
    _live_containers_have_seats,
    _what_is_shown_is_there,
    _what_is_stopped_is_stopped,
    _labels_tell_no_more,
]
