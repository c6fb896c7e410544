"""What runs: hosts and their GPUs, replicas and their attempts. The loop writes these rows, nobody else."""

from cortex.fleet.models.attempts import Attempt, Measurement
from cortex.fleet.models.hosts import SILENT_AFTER, Gpu, Host, Install, Lack, Stray
from cortex.fleet.models.replicas import (
    BACKOFF_CAP,
    BACKOFF_FIRST,
    FORGIVEN_AFTER,
    Overtaken,
    Replica,
    Seat,
    Transition,
)

__all__ = [
    "BACKOFF_CAP",
    "BACKOFF_FIRST",
    "FORGIVEN_AFTER",
    "SILENT_AFTER",
    "Attempt",
    "Gpu",
    "Host",
    "Install",
    "Lack",
    "Measurement",
    "Overtaken",
    "Replica",
    "Seat",
    "Stray",
    "Transition",
]
