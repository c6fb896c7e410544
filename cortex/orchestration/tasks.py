"""What Celery carries: hints to look. Arguments are ids; losing one costs seconds, never correctness."""

import logging
from typing import Any
from uuid import UUID

from celery import Task
from django.conf import settings
from kombu.exceptions import OperationalError

from cortex.celery import app
from cortex.fleet.models import Host, Replica
from cortex.orchestration.hosts import mark_silent
from cortex.orchestration.identity import NameTaken
from cortex.orchestration.looks import look_at
from cortex.orchestration.runtimes import here
from cortex.orchestration.settle import settle
from cortex.orchestration.sweep import at_once, sweep

log = logging.getLogger(__name__)


@app.task
def settle_model(model_id: int) -> None:
    """Make the replicas of a model match its definition, then have their hosts look at them."""
    for replica in settle(model_id):
        poke_replica(replica)


@app.task
def reconcile_replica(replica_id: str) -> None:
    """Take a replica of this worker's host to what people want."""
    look_at(UUID(replica_id), here())


@app.task
def tick() -> None:
    """Beat's pulse: every host sweeps. Expires before the next, so a stalled queue does not pile up."""
    mark_silent()
    for host in Host.objects.answering():
        sweep_host.apply_async(queue=host.queue, expires=settings.SWEEP_EVERY)


@app.task(bind=True)
def sweep_host(self: "Task[Any, Any]") -> None:
    """Look at everything of this worker's host. A worker whose host is another machine ends: the queue is not its."""
    try:
        sweep(here(), at_once)
    except NameTaken as refusal:
        log.critical("%s This worker ends.", refusal)
        app.control.shutdown(destination=[str(self.request.hostname)])


def poke(model_id: int) -> None:
    """Ask for a look at a model now. With the broker down the sweep finds it, later."""
    _send(settle_model, (model_id,), "default")


def poke_replica(replica: Replica) -> None:
    """Ask a replica's host for a look at it now."""
    if replica.host:
        _send(reconcile_replica, (str(replica.id),), replica.host.queue)


def poke_host(host: Host) -> None:
    """Ask a host for a look at everything of it now."""
    _send(sweep_host, (), host.queue)


def _send(task: "Task[Any, Any]", args: tuple[object, ...], queue: str) -> None:
    try:
        task.apply_async(args, queue=queue, retry=False, expires=60)
    except OperationalError as error:
        log.warning("the broker did not take %s%s: %s; the sweep will do it", task.name, args, error)
