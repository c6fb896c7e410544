"""What is to run: replicas, their seats, their changes of state."""

import uuid
from collections.abc import Sequence
from datetime import timedelta

from django.db import models, transaction
from django.db.models import F, Q

from cortex.catalog.models import Desired, Model
from cortex.fleet import clock
from cortex.fleet.models.hosts import Gpu, Host, Install
from cortex.fleet.states import Observed, Phase, phase

BACKOFF_FIRST = timedelta(seconds=10)
BACKOFF_CAP = timedelta(seconds=300)
FORGIVEN_AFTER = timedelta(minutes=10)


class Overtaken(Exception):
    """Somebody was first, or people changed their mind: what was computed is void. Look again."""


class ReplicaQuerySet(models.QuerySet["Replica"]):
    def serving(self) -> "ReplicaQuerySet":
        """Those that may get requests: ready, wanted, reachable."""
        return self.filter(
            observed=Observed.READY,
            model__desired=Desired.RUNNING,
            model__removed_at=None,
            slot__lt=F("model__replicas"),
            draining_at=None,
            called_off=False,
        ).exclude(address="")


class Replica(models.Model):
    """One slot of a model on one host; outlives its containers.

    While the definition changes, a slot has two: the one that serves, and the one that `replaces` it as soon as it
    serves too. Of the two, the one no longer needed is `called_off`: it drains, stops, and its row goes.

    `observed` changes through observe() alone. `turn` is the model's turn that this row last acted on;
    `failures`, `retry_at` and `gave_up` are the backoff, kept here so that no restart forgets it.
    `misses` are probes in a row that got no answer, the last at `missed_at`. From `draining_at` on it gets no
    new requests. `in_the_way` names the replicas whose stopping would make room for it. `memory` is bytes of its
    host's own that were promised to it.
    """

    id = models.UUIDField(primary_key=True, default=uuid.uuid4, editable=False)
    model = models.ForeignKey(Model, on_delete=models.PROTECT, related_name="replica_set")
    slot = models.PositiveSmallIntegerField()
    host = models.ForeignKey(Host, null=True, on_delete=models.PROTECT, related_name="replicas")
    observed = models.CharField(max_length=16, default=Observed.ABSENT)
    reason = models.TextField(blank=True, default="")
    in_the_way = models.JSONField(default=list, blank=True)
    observed_at = models.DateTimeField(null=True)
    turn = models.PositiveBigIntegerField(default=0)
    address = models.CharField(max_length=100, blank=True, default="")
    failures = models.PositiveIntegerField(default=0)
    misses = models.PositiveSmallIntegerField(default=0)
    missed_at = models.DateTimeField(null=True)
    draining_at = models.DateTimeField(null=True)
    retry_at = models.DateTimeField(null=True)
    gave_up = models.BooleanField(default=False)
    replaces = models.OneToOneField("self", null=True, on_delete=models.SET_NULL, related_name="successor")
    called_off = models.BooleanField(default=False)
    memory = models.PositiveBigIntegerField(default=0)

    objects = ReplicaQuerySet.as_manager()

    class Meta:
        ordering = ["model", "slot"]
        constraints = [
            models.UniqueConstraint(
                fields=["model", "slot"],
                condition=Q(replaces=None, called_off=False),
                name="replica_slot_is_unique",
            ),
            models.CheckConstraint(condition=Q(observed__in=list(Observed)), name="replica_observed_is_known"),
        ]

    def __str__(self) -> str:
        return f"{self.model.name}/{self.slot}{' (new)' if self.replaces_id else ''}"

    @property
    def container_name(self) -> str:
        """The last fence: Docker lets only one container bear it, so it carries no attempt number."""
        return f"cortex-{Install.identity()[:8]}-{self.id.hex}"

    @property
    def wanted(self) -> bool:
        return self.model.wants(self.slot) and not self.called_off

    @property
    def phase(self) -> Phase:
        if self.draining_at and self.observed == Observed.READY:
            return Phase.DRAINING
        return phase(Observed(self.observed), wanted=self.wanted, failures=self.failures)

    def observe(self, new: Observed, reason: str, *, address: str = "", in_the_way: Sequence[str] = ()) -> bool:
        """The one place that changes `observed`; writes the transition with it. False when nothing changed.

        Raises Overtaken, and writes nothing, when somebody else changed it or began a newer turn.
        """
        if (self.observed, self.reason, self.address) == (new, reason, address):
            return False
        old, at = self.observed, clock.now()
        since = at if old != new else self.observed_at
        with transaction.atomic():
            ours = Replica.objects.filter(id=self.id, observed=old, turn=self.turn)
            told = {"observed": new, "reason": reason, "address": address, "in_the_way": list(in_the_way)}
            if not ours.update(**told, observed_at=since):
                raise Overtaken(f"{self} is no longer {old} at turn {self.turn}.")
            if old != new:
                self.transitions.create(old=old, new=new, reason=reason, at=at)
        self.observed, self.reason, self.address, self.observed_at = new, reason, address, since
        self.in_the_way = list(in_the_way)
        return True

    def begin_turn(self) -> None:
        """People changed what they want: failures of earlier tries are forgiven. Raises Overtaken."""
        turn = self.model.turn
        ours = Replica.objects.filter(id=self.id, turn=self.turn)
        if not ours.update(turn=turn, failures=0, retry_at=None, gave_up=False):
            raise Overtaken(f"{self} is no longer at turn {self.turn}.")
        self.turn, self.failures, self.retry_at, self.gave_up = turn, 0, None, False

    def count_failure(self, *, served: bool, permanent: bool) -> None:
        """One more failed attempt: the next after 10 s, doubling to 300 s; at once if this was the first and served."""
        self.failures += 1
        self.gave_up = permanent and self.failures >= 2
        delay = min(BACKOFF_FIRST * 2 ** min(self.failures - 1, 6), BACKOFF_CAP)
        self.retry_at = clock.now() + (timedelta(0) if served and self.failures == 1 else delay)
        self.save(update_fields=["failures", "retry_at", "gave_up"])

    def wait(self, delay: timedelta) -> None:
        """Not to be started before a while has passed."""
        self.retry_at = clock.now() + delay
        self.save(update_fields=["retry_at"])

    def drain(self) -> None:
        """From now on it gets no new requests."""
        self.draining_at = clock.now()
        self.save(update_fields=["draining_at"])

    def call_off(self) -> None:
        """It is no longer needed, though its model is. Who was to replace it has its place from now on."""
        with transaction.atomic():
            before, self.replaces, self.called_off = self.replaces_id, None, True
            self.save(update_fields=["replaces", "called_off"])
            Replica.objects.filter(replaces=self).update(replaces=before)

    def end_drain(self) -> None:
        """It may get requests again, or it is gone."""
        if self.draining_at:
            self.draining_at = None
            self.save(update_fields=["draining_at"])

    def note_probe(self, *, missed: bool) -> None:
        """Count probes without an answer, in a row; an answer sets the count back."""
        misses = self.misses + 1 if missed else 0
        if misses != self.misses:
            self.misses, self.missed_at = misses, clock.now()
            self.save(update_fields=["misses", "missed_at"])

    def forgive(self) -> None:
        """It has been ready long enough: earlier failures no longer count."""
        self.failures, self.retry_at = 0, None
        self.save(update_fields=["failures", "retry_at"])


class Seat(models.Model):
    """Memory promised to a replica on a card, in bytes. `launching` from the moment that it may start there."""

    replica = models.ForeignKey(Replica, on_delete=models.PROTECT, related_name="seats")
    gpu = models.ForeignKey(Gpu, on_delete=models.PROTECT, related_name="seats")
    bytes = models.PositiveBigIntegerField()
    launching = models.BooleanField(default=False)

    class Meta:
        constraints = [models.UniqueConstraint(fields=["replica", "gpu"], name="seat_is_unique")]

    def __str__(self) -> str:
        return f"{self.replica} on {self.gpu_id}"


class Transition(models.Model):
    """One change of what a host shows of a replica, and why."""

    replica = models.ForeignKey(Replica, on_delete=models.CASCADE, related_name="transitions")
    old = models.CharField(max_length=16)
    new = models.CharField(max_length=16)
    reason = models.TextField(blank=True, default="")
    at = models.DateTimeField()

    class Meta:
        ordering = ["-id"]

    def __str__(self) -> str:
        return f"{self.replica}: {self.old} -> {self.new}"
