"""`manage.py serve ROLE`: each process of Cortex by its name, the same in ./dev up and in compose."""

import logging
import os
import sys
from pathlib import Path
from typing import Any

from django.conf import settings
from django.core.management.base import BaseCommand, CommandError, CommandParser
from django.db import DatabaseError

from cortex.orchestration import identity
from cortex.orchestration.identity import NameTaken
from cortex.orchestration.runtimes import here
from cortex.runtime.contract import RuntimeFault

log = logging.getLogger(__name__)

GUNICORN = ["gunicorn", "-k", "asgi", "--keep-alive", "75", "--no-control-socket"]

# Many threads need not have a heap each, and Django's checks, which are for developers, would load every view.
FRUGAL = {"MALLOC_ARENA_MAX": "2", "CELERY_SKIP_CHECKS": "1"}


def command(role: str, bind: str, workers: int) -> list[str]:
    """The argv of a process. Workers listen on `default` and on their own host's queue."""
    host = settings.ENV.cortex_host_name
    bound = ["-b", bind, "-w", str(workers)]
    node = f"{identity.node()}.{os.getpid()}"
    beat_file = str(settings.ENV.cortex_state / "beat-schedule")
    return {
        "web": [*GUNICORN, *bound, "--graceful-timeout", "5", "cortex.asgi:application"],
        # An answer under way is finished first.
        "gateway": [*GUNICORN, *bound, "--graceful-timeout", "55", "cortex.gateway.app:application"],
        # Threads: its tasks wait for Docker and Postgres, and a process for each would weigh as much as the first.
        "worker": ["celery", "-A", "cortex", "worker", "-Q", f"default,host.{host}", "-n", node,
                   "-P", "threads", "-c", str(workers), "-l", "warning",
                   "--without-gossip", "--without-mingle", "--without-heartbeat"],
        "beat": ["celery", "-A", "cortex", "beat", "-s", beat_file, "--pidfile=", "-l", "warning"],
        "agent": [sys.executable, "manage.py", "agent"],
        "gpus": [sys.executable, "manage.py", "gpus"],
    }[role]  # fmt: skip


def _check_name() -> None:
    """No task of a host goes to a machine that only bears its name. Who cannot be asked now is asked at each sweep."""
    try:
        identity.claim(here())
    except NameTaken as refusal:
        raise CommandError(str(refusal)) from None
    except (DatabaseError, RuntimeFault) as fault:
        log.warning("whether this machine is host %s shows later: %s", settings.ENV.cortex_host_name, fault)


class Command(BaseCommand):
    help = "Becomes one of Cortex's processes: web, gateway, worker, beat, agent or gpus."
    requires_system_checks = ()

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("role", choices=["web", "gateway", "worker", "beat", "agent", "gpus"])
        parser.add_argument("--bind", default="", help="address:port (web 8000, gateway 8001)")
        parser.add_argument("--workers", type=int, default=0, help="processes (worker: tasks at once, in threads)")

    def handle(self, *args: Any, role: str, bind: str, workers: int, **options: Any) -> None:
        port = {"web": 8000, "gateway": 8001}.get(role, 0)
        if role == "worker":
            _check_name()
        argv = command(role, bind or f"127.0.0.1:{port}", workers or (4 if role == "worker" else 1))
        os.environ |= FRUGAL | {"CORTEX_DATABASE_POOL": "true"}
        os.environ["PATH"] = f"{Path(sys.executable).parent}:{os.environ.get('PATH', '')}"
        os.execvpe(argv[0], argv, os.environ)  # noqa: S606 - the list is ours
