"""What people declare: model definitions, and the orders they gave."""

from django.conf import settings
from django.db import models
from django.db.models import F, Q


class Desired(models.TextChoices):
    RUNNING = "running"
    STOPPED = "stopped"


class ModelQuerySet(models.QuerySet["Model"]):
    def declared(self) -> "ModelQuerySet":
        """Those that people see: not removed."""
        return self.filter(removed_at=None)

    def locked(self, name: str) -> "Model":
        """The model of this name, its row locked until the transaction ends."""
        return self.declared().select_for_update().get(name=name)


class Model(models.Model):
    """A definition. The doors change it through orders; the loop makes the hosts match it.

    `turn` goes up whenever what people want changes: anything computed for an older turn is void.
    `fresh_turn` is the last turn that asks for new containers though nothing else changed (restart).
    `placement` holds where it may run, as a definition says it; empty means anywhere.
    `removed_at` hides a model that waits for its containers to go; then the loop deletes the row.
    """

    name = models.CharField(max_length=63)
    engine = models.CharField(max_length=32)
    repository = models.CharField(max_length=200, blank=True, default="")
    revision = models.CharField(max_length=100, blank=True, default="")
    path = models.CharField(max_length=500, blank=True, default="")
    options = models.JSONField(default=dict, blank=True)
    image = models.CharField(max_length=300, blank=True, default="")
    context = models.PositiveIntegerField(null=True, blank=True)
    users = models.PositiveIntegerField(null=True, blank=True)
    gpus = models.PositiveSmallIntegerField(null=True, blank=True)
    replicas = models.PositiveSmallIntegerField(default=1)
    placement = models.JSONField(default=dict, blank=True)
    desired = models.CharField(max_length=8, choices=Desired.choices, default=Desired.STOPPED)
    turn = models.PositiveBigIntegerField(default=1)
    fresh_turn = models.PositiveBigIntegerField(default=1)
    created_at = models.DateTimeField(auto_now_add=True)
    updated_at = models.DateTimeField(auto_now=True)
    removed_at = models.DateTimeField(null=True, blank=True)

    objects = ModelQuerySet.as_manager()

    class Meta:
        ordering = ["name"]
        constraints = [
            models.UniqueConstraint(fields=["name"], condition=Q(removed_at=None), name="model_name_is_unique"),
            models.CheckConstraint(condition=~(Q(path="") & Q(repository="")), name="model_has_a_source"),
            models.CheckConstraint(condition=Q(desired__in=Desired.values), name="model_desired_is_known"),
            models.CheckConstraint(condition=Q(fresh_turn__lte=F("turn")), name="model_fresh_turn_is_past"),
        ]

    def __str__(self) -> str:
        return self.name

    def wants(self, slot: int) -> bool:
        """Whether the replica of this slot is to run."""
        return self.removed_at is None and self.desired == Desired.RUNNING and slot < self.replicas

    def next_turn(self, *, fresh: bool = False) -> None:
        """Mark that people changed what they want; `fresh` asks for new containers."""
        self.turn += 1
        if fresh:
            self.fresh_turn = self.turn


class Order(models.Model):
    """What somebody asked for, when: append-only, written in the transaction of the change itself.

    It is about a model, or about a host: then it has no turn.
    """

    model = models.ForeignKey(Model, null=True, on_delete=models.SET_NULL, related_name="orders")
    model_name = models.CharField(max_length=63, blank=True, default="")
    host_name = models.CharField(max_length=63, blank=True, default="")
    verb = models.CharField(max_length=16)
    by = models.ForeignKey(settings.AUTH_USER_MODEL, null=True, on_delete=models.SET_NULL, related_name="orders")
    by_name = models.CharField(max_length=150)
    turn = models.PositiveBigIntegerField()
    changes = models.JSONField(default=dict)
    at = models.DateTimeField(auto_now_add=True)

    class Meta:
        ordering = ["-id"]

    def __str__(self) -> str:
        return f"{self.verb} {self.model_name or self.host_name} by {self.by_name}"
