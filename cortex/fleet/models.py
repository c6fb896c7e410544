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


class Overtaken(Exception):
    """Somebody was first, or people changed their mind: what was computed is void. Look again."""


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
    """A container engine with its GPUs and one worker queue. `memory` is bytes; `condition` says what is wrong.

    `machine` is the name its container engine gives; `toolkit_condition` why containers get no GPUs there,
    which `gpu_condition` repeats. `labels` are what people call it, for models that ask.
    """

    name = models.CharField(max_length=63, unique=True)
    cores = models.PositiveIntegerField(default=0)
    memory = models.PositiveBigIntegerField(default=0)
    version = models.CharField(max_length=100, blank=True, default="")
    condition = models.TextField(blank=True, default="")
    gpu_condition = models.TextField(blank=True, default="")
    toolkit_condition = models.TextField(blank=True, default="")
    machine = models.CharField(max_length=255, blank=True, default="")
    labels = models.JSONField(default=dict, blank=True)
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
    """A card by its UUID. Memory is bytes: `used` is what NVML sees, `reserved` what Cortex promised.

    `pids` are the processes that NVML sees on it.
    """

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
    pids = models.JSONField(default=list, blank=True)
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
            draining_at=None,
        ).exclude(address="")


class Replica(models.Model):
    """One slot of a model on one host; outlives its containers.

    `observed` changes through observe() alone. `turn` is the model's turn that this row last acted on;
    `failures`, `retry_at` and `gave_up` are the backoff, kept here so that no restart forgets it.
    `misses` are probes in a row that got no answer, the last at `missed_at`. From `draining_at` on it gets no
    new requests.
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
    missed_at = models.DateTimeField(null=True)
    draining_at = models.DateTimeField(null=True)
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
        """The one place that changes `observed`; writes the transition with it. False when nothing changed.

        Raises Overtaken, and writes nothing, when somebody else changed it or began a newer turn.
        """
        if (self.observed, self.reason, self.address) == (new, reason, address):
            return False
        old, at = self.observed, clock.now()
        since = at if old != new else self.observed_at
        with transaction.atomic():
            ours = Replica.objects.filter(id=self.id, observed=old, turn=self.turn)
            if not ours.update(observed=new, reason=reason, address=address, observed_at=since):
                raise Overtaken(f"{self} is no longer {old} at turn {self.turn}.")
            if old != new:
                self.transitions.create(old=old, new=new, reason=reason, at=at)
        self.observed, self.reason, self.address, self.observed_at = new, reason, address, since
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


class Attempt(models.Model):
    """One start of a replica: one container, with its times, exit facts, logs and diagnosis. Ends once.

    `turn` is the model's when it began; `confirmed_turn` the latest for which its container is still right.
    Bytes are of image and weights on their way (`done` of `total`). `ending` says why we ended it, before we
    do; `failing` whether that counts as a failure. `progress` is the last evidence of life while it starts.
    `estimated` is what it was expected to take: likely bytes by term for each of its `cards` and its `host`, and a
    `note` where nobody could tell.
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
    ending = models.TextField(blank=True, default="")
    failing = models.BooleanField(default=False)
    progress = models.CharField(max_length=200, blank=True, default="")
    estimated = models.JSONField(default=dict, blank=True)
    progress_at = models.DateTimeField(null=True)
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


class Measurement(models.Model):
    """What one start took, in bytes: `terms` as its engine's log names them, `devices` as NVML saw its cards.

    `estimated` is what had been foretold, per card and term. It outlives its attempt: the next estimate of the
    same weights with the same engine's image on as many cards of this name is corrected by it.
    """

    attempt = models.OneToOneField(Attempt, null=True, on_delete=models.SET_NULL, related_name="measurement")
    model_name = models.CharField(max_length=63)
    repository = models.CharField(max_length=200, blank=True, default="")
    path = models.CharField(max_length=500, blank=True, default="")
    engine = models.CharField(max_length=32)
    image = models.CharField(max_length=300)
    card = models.CharField(max_length=100, blank=True, default="")
    gpus = models.PositiveSmallIntegerField()
    estimated = models.JSONField(default=list)
    terms = models.JSONField(default=dict)
    tokens = models.PositiveBigIntegerField(null=True)
    devices = models.JSONField(default=list)
    at = models.DateTimeField()

    class Meta:
        ordering = ["-at"]
        indexes = [models.Index(fields=["engine", "repository", "path"], name="measurement_by_weights")]

    def __str__(self) -> str:
        return f"{self.model_name} on {self.gpus} x {self.card or 'CPU'}"


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


class Stray(models.Model):
    """A container of this install that no replica claims. Listed at once, removed after a grace, or when told to."""

    host = models.ForeignKey(Host, on_delete=models.CASCADE, related_name="strays")
    container_id = models.CharField(max_length=64, unique=True)
    name = models.CharField(max_length=255)
    model_name = models.CharField(max_length=63, blank=True, default="")
    first_seen_at = models.DateTimeField()
    confirmed = models.BooleanField(default=False)

    class Meta:
        ordering = ["host", "name"]

    def __str__(self) -> str:
        return f"{self.name} on {self.host}"
