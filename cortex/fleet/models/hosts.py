"""Where things run: this installation, its hosts, their cards, containers that nobody claims."""

import uuid
from datetime import timedelta
from typing import ClassVar

from django.db import connection, models
from django.db.models import F, Q

from cortex.fleet import clock

SILENT_AFTER = timedelta(seconds=20)
# Longer than a refused process takes to be started again.
RIVAL_FOR = timedelta(minutes=3)


class Install(models.Model):
    """This installation's identity: the label that tells our containers from everybody else's."""

    id = models.UUIDField(primary_key=True, default=uuid.uuid4, editable=False)
    only = models.BooleanField(default=True, unique=True, editable=False)

    known: ClassVar[str] = ""

    class Meta:
        constraints = [models.CheckConstraint(condition=Q(only=True), name="install_is_only_one")]

    def __str__(self) -> str:
        return str(self.id)

    @classmethod
    def identity(cls) -> str:
        """Thirty-two hex digits, made on first use. They never change, so that each process asks once."""
        if cls.known:
            return cls.known
        found = cls.objects.get_or_create(only=True)[0].id.hex
        if not connection.in_atomic_block:  # what a transaction made may never have been
            cls.known = found
        return found


class HostQuerySet(models.QuerySet["Host"]):
    def answering(self) -> "HostQuerySet":
        return self.filter(seen_at__gte=clock.now() - SILENT_AFTER)


class Host(models.Model):
    """A container engine with its GPUs and one worker queue. `memory` is bytes; `condition` says what is wrong.

    `machine` is what its container engine says of itself; `rival` why another machine was refused that asked for
    the name, at `rival_at`. `toolkit_condition` says why containers get no GPUs there, which `gpu_condition`
    repeats. `labels` are what people call it, for models that ask. Of its `memory`, `reserved` is promised to
    replicas. People have it drained from `draining_since` on, when `to_leave` replicas were there.
    """

    name = models.CharField(max_length=63, unique=True)
    cores = models.PositiveIntegerField(default=0)
    memory = models.PositiveBigIntegerField(default=0)
    reserved = models.PositiveBigIntegerField(default=0)
    version = models.CharField(max_length=100, blank=True, default="")
    condition = models.TextField(blank=True, default="")
    gpu_condition = models.TextField(blank=True, default="")
    toolkit_condition = models.TextField(blank=True, default="")
    machine = models.CharField(max_length=255, blank=True, default="")
    rival = models.TextField(blank=True, default="")
    rival_at = models.DateTimeField(null=True, blank=True)
    labels = models.JSONField(default=dict, blank=True)
    pretend = models.BooleanField(default=False)
    cordoned = models.BooleanField(default=False)
    draining_since = models.DateTimeField(null=True, blank=True)
    to_leave = models.PositiveIntegerField(default=0)
    seen_at = models.DateTimeField(null=True)
    swept_at = models.DateTimeField(null=True)

    objects = HostQuerySet.as_manager()

    class Meta:
        ordering = ["name"]

    def __str__(self) -> str:
        return self.name

    @property
    def trouble(self) -> str:
        """What is wrong, and who else asked for its name lately."""
        lately = self.rival_at is not None and clock.now() - self.rival_at < RIVAL_FOR
        return " ".join(filter(None, [self.condition, self.rival if lately else ""]))

    @property
    def draining(self) -> bool:
        return self.draining_since is not None

    @property
    def closed(self) -> str:
        """Why people let nothing new go there; empty when they do."""
        if self.draining:
            return f"Host {self} is being drained."
        return f"Host {self} is cordoned." if self.cordoned else ""

    @property
    def queue(self) -> str:
        return f"host.{self.name}"


class Lack(models.Model):
    """A host on which a model's files are missing, as it said itself; it takes that back when they are there."""

    host = models.ForeignKey(Host, on_delete=models.CASCADE, related_name="lacks")
    path = models.CharField(max_length=500)
    reason = models.TextField()

    class Meta:
        ordering = ["host", "path"]
        constraints = [models.UniqueConstraint(fields=["host", "path"], name="lack_is_told_once")]

    def __str__(self) -> str:
        return f"{self.path} on {self.host}"


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
