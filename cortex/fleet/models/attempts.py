"""What happened: each start of a replica, and what it was measured to take."""

from datetime import datetime

from django.db import models
from django.db.models import Q

from cortex.fleet import clock
from cortex.fleet.models.replicas import Replica


class Attempt(models.Model):
    """One start of a replica: one container, with its times, exit facts, logs and diagnosis. Ends once.

    `turn` is the model's when it began; `confirmed_turn` the latest for which its container is still right.
    Bytes are of image and weights on their way (`done` of `total`). `ending` says why we ended it, before we
    do; `failing` whether that counts as a failure. `progress` is the last evidence of life while it starts.
    `estimated` is what it was expected to take: likely bytes by term for each of its `cards` and its `host`, and a
    `note` where nobody could tell. `failure` counts failures in a row: 1 is the first of a crash loop, 0 none.
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
    weights_loaded_at = models.DateTimeField(null=True)
    cache_sized_at = models.DateTimeField(null=True)
    ready_at = models.DateTimeField(null=True)
    first_token_at = models.DateTimeField(null=True)
    ended_at = models.DateTimeField(null=True)
    exit_code = models.IntegerField(null=True)
    oom_killed = models.BooleanField(default=False)
    failure = models.PositiveIntegerField(default=0)
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
