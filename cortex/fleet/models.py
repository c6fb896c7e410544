"""What runs: hosts and their GPUs, replicas and their attempts. The loop writes these rows, nobody else."""

import uuid
from datetime import datetime, timedelta

from django.db import models, transaction
from django.db.models import F, Q

from cortex.catalog.models import Desired, Model
from cortex.fleet import clock
from cortex.fleet.states import Observed, Phase, phase

BACKOFF_FIRST = timedelta(seconds=10)
BACKOFF_CAP = timedelta(seconds=300)
FORGIVEN_AFTER = timedelta(minutes=10)
SILENT_AFTER = timedelta(seconds=20)


class Install(models.Model):
    """This installation's identity: the label that tells our containers from everybody else's."""

    id = models.UUIDField(primary_key=True, default=uuid.uuid4, editable=False)
    only = models.BooleanField(default=True, unique=True, editable=False)

    class Meta:
        constraints = [models.CheckConstraint(condition=Q(only=True), name="install_is_only_one")]

    def __str__(self) -> str:
        return str(self.id)

    @classmethod
    def identity(cls) -> str:
        """Thirty-two hex digits, made on first use."""
        return cls.objects.get_or_create(only=True)[0].id.hex


class HostQuerySet(models.QuerySet["Host"]):
    def answering(self) -> "HostQuerySet":
        return self.filter(seen_at__gte=clock.now() - SILENT_AFTER)


class Host(models.Model):
    """A container engine with its GPUs and one worker queue. `memory` is bytes; `condition` says what is wrong."""

    name = models.CharField(max_length=63, unique=True)
    cores = models.PositiveIntegerField(default=0)
    memory = models.PositiveBigIntegerField(default=0)
    version = models.CharField(max_length=100, blank=True, default="")
    condition = models.TextField(blank=True, default="")
    gpu_condition = models.TextField(blank=True, default="")
    pretend = models.BooleanField(default=False)
    cordoned = models.BooleanField(default=False)
    seen_at = models.DateTimeField(null=True)
    swept_at = models.DateTimeField(null=True)

    objects = HostQuerySet.as_manager()

    class Meta:
        ordering = ["name"]

    def __str__(self) -> str:
        return self.name

    @property
    def queue(self) -> str:
        return f"host.{self.name}"


class Gpu(models.Model):
    """A card by its UUID. Memory is bytes: `used` is what NVML sees, `reserved` what Cortex promised."""

    uuid = models.CharField(max_length=80, primary_key=True)
    host = models.ForeignKey(Host, on_delete=models.CASCADE, related_name="gpus")
    index = models.PositiveSmallIntegerField(default=0)
    name = models.CharField(max_length=100, blank=True, default="")
    total = models.PositiveBigIntegerField()
    used = models.PositiveBigIntegerField(default=0)
    reserved = models.PositiveBigIntegerField(default=0)
    utilisation = models.PositiveSmallIntegerField(null=True)
    temperature = models.PositiveSmallIntegerField(null=True)
    power = models.FloatField(null=True)
    missing = models.BooleanField(default=False)
    seen_at = models.DateTimeField(null=True)

    class Meta:
        ordering = ["host", "index"]
        constraints = [models.CheckConstraint(condition=Q(reserved__lte=F("total")), name="gpu_is_not_overbooked")]

    def __str__(self) -> str:
        return f"{self.name} {self.uuid}"

    @property
    def free(self) -> int:
        """Bytes that nobody was promised and nobody uses."""
        return max(0, self.total - max(self.reserved, self.used))


class ReplicaQuerySet(models.QuerySet["Replica"]):
    def serving(self) -> "ReplicaQuerySet":
        """Those that may get requests: ready, wanted, reachable."""
        return self.filter(
            observed=Observed.READY,
            model__desired=Desired.RUNNING,
            model__removed_at=None,
            slot__lt=F("model__replicas"),
        ).exclude(address="")


class Replica(models.Model):
    """One slot of a model on one host; outlives its containers.

    `observed` changes through observe() alone. `turn` is the model's turn that this row last acted on;
    `failures`, `retry_at` and `gave_up` are the backoff, kept here so that no restart forgets it.
    """

    id = models.UUIDField(primary_key=True, default=uuid.uuid4, editable=False)
    model = models.ForeignKey(Model, on_delete=models.PROTECT, related_name="replica_set")
    slot = models.PositiveSmallIntegerField()
    host = models.ForeignKey(Host, null=True, on_delete=models.PROTECT, related_name="replicas")
    observed = models.CharField(max_length=16, default=Observed.ABSENT)
    reason = models.TextField(blank=True, default="")
    observed_at = models.DateTimeField(null=True)
    turn = models.PositiveBigIntegerField(default=0)
    address = models.CharField(max_length=100, blank=True, default="")
    failures = models.PositiveIntegerField(default=0)
    misses = models.PositiveSmallIntegerField(default=0)
    retry_at = models.DateTimeField(null=True)
    gave_up = models.BooleanField(default=False)

    objects = ReplicaQuerySet.as_manager()

    class Meta:
        ordering = ["model", "slot"]
        constraints = [
            models.UniqueConstraint(fields=["model", "slot"], name="replica_slot_is_unique"),
            models.CheckConstraint(condition=Q(observed__in=list(Observed)), name="replica_observed_is_known"),
        ]

    def __str__(self) -> str:
        return f"{self.model.name}/{self.slot}"

    @property
    def container_name(self) -> str:
        """The last fence: Docker lets only one container bear it, so it carries no attempt number."""
        return f"cortex-{Install.identity()[:8]}-{self.id.hex}"

    @property
    def wanted(self) -> bool:
        return self.model.wants(self.slot)

    @property
    def phase(self) -> Phase:
        return phase(Observed(self.observed), wanted=self.wanted, failures=self.failures)

    def observe(self, new: Observed, reason: str, *, address: str = "") -> bool:
        """The one place that changes `observed`; writes the transition with it. False when nothing changed."""
        if (self.observed, self.reason, self.address) == (new, reason, address):
            return False
        old, self.observed, self.reason, self.address = self.observed, new, reason, address
        with transaction.atomic():
            if old != new:
                self.observed_at = clock.now()
                self.transitions.create(old=old, new=new, reason=reason, at=self.observed_at)
            self.save(update_fields=["observed", "reason", "address", "observed_at"])
        return True

    def begin_turn(self) -> None:
        """People changed what they want: failures of earlier tries are forgiven."""
        self.turn = self.model.turn
        self.failures, self.retry_at, self.gave_up = 0, None, False
        self.save(update_fields=["turn", "failures", "retry_at", "gave_up"])

    def count_failure(self, *, served: bool, permanent: bool) -> None:
        """One more failed attempt: the next after 10 s, doubling to 300 s; at once if this was the first and served."""
        self.failures += 1
        self.gave_up = permanent and self.failures >= 2
        delay = min(BACKOFF_FIRST * 2 ** min(self.failures - 1, 6), BACKOFF_CAP)
        self.retry_at = clock.now() + (timedelta(0) if served and self.failures == 1 else delay)
        self.save(update_fields=["failures", "retry_at", "gave_up"])

    def forgive(self) -> None:
        """It has been ready long enough: earlier failures no longer count."""
        self.failures, self.retry_at = 0, None
        self.save(update_fields=["failures", "retry_at"])


class Attempt(models.Model):
    """One start of a replica: one container, with its times, exit facts, logs and diagnosis. Ends once.

    `turn` is the model's when it began; `confirmed_turn` the latest for which its container is still right.
    Bytes are of image and weights on their way (`done` of `total`).
    """

    replica = models.ForeignKey(Replica, on_delete=models.CASCADE, related_name="attempts")
    number = models.PositiveIntegerField()
    turn = models.PositiveBigIntegerField()
    confirmed_turn = models.PositiveBigIntegerField()
    fingerprint = models.CharField(max_length=16, blank=True, default="")
    image = models.CharField(max_length=300)
    spec = models.JSONField(default=dict)
    container_id = models.CharField(max_length=64, blank=True, default="")
    bytes_to_load = models.PositiveBigIntegerField(default=0)
    bytes_done = models.PositiveBigIntegerField(default=0)
    bytes_total = models.PositiveBigIntegerField(default=0)
    queued_at = models.DateTimeField()
    fetching_at = models.DateTimeField(null=True)
    created_at = models.DateTimeField(null=True)
    started_at = models.DateTimeField(null=True)
    ready_at = models.DateTimeField(null=True)
    ended_at = models.DateTimeField(null=True)
    exit_code = models.IntegerField(null=True)
    oom_killed = models.BooleanField(default=False)
    reason = models.TextField(blank=True, default="")
    remedy = models.TextField(blank=True, default="")
    first_log = models.TextField(blank=True, default="")
    last_log = models.TextField(blank=True, default="")

    class Meta:
        ordering = ["-number"]
        constraints = [
            models.UniqueConstraint(fields=["replica", "number"], name="attempt_number_is_unique"),
            models.UniqueConstraint(fields=["replica"], condition=Q(ended_at=None), name="attempt_open_is_only_one"),
        ]

    def __str__(self) -> str:
        return f"{self.replica} #{self.number}"

    def stamp(self, field: str, at: datetime | None = None) -> None:
        """Note the time of a step of the timeline, once."""
        if getattr(self, field) is None:
            setattr(self, field, at or clock.now())
            self.save(update_fields=[field])


class Seat(models.Model):
    """Memory promised to a replica on a card, in bytes."""

    replica = models.ForeignKey(Replica, on_delete=models.PROTECT, related_name="seats")
    gpu = models.ForeignKey(Gpu, on_delete=models.PROTECT, related_name="seats")
    bytes = models.PositiveBigIntegerField()

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
