"""A Celery application whose look at one replica ends its process, as the kernel does when memory runs out."""

import os
import signal
from pathlib import Path
from types import SimpleNamespace
from uuid import UUID

import django

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "cortex.settings")
django.setup()

from cortex.celery import app  # noqa: E402
from cortex.fleet.models import Host  # noqa: E402
from cortex.orchestration import looks, tasks  # noqa: E402


def look(replica: UUID, here: SimpleNamespace) -> None:
    with Path(os.environ["BEGUN"]).open("a") as begun:
        begun.write(f"{replica}\n")
    if str(replica) == os.environ["POISON"]:
        os.kill(os.getpid(), signal.SIGKILL)


vars(looks)["reconcile"] = look
vars(tasks)["here"] = lambda: SimpleNamespace(host=Host.objects.get(name="test"))

__all__ = ["app"]
