"""`manage.py healthy ROLE`: whether a process of this host does its work, for containers' health checks."""

import time
from typing import Any

from django.conf import settings
from django.core.management.base import BaseCommand, CommandError, CommandParser

from cortex.celery import app
from cortex.fleet.models import Host
from cortex.orchestration import identity

# Beat writes its file every three minutes.
BEAT_SILENT_AFTER = 600.0


def worker() -> bool:
    """This host's worker answers Celery's ping."""
    return bool(app.control.ping(pattern=f"{identity.node()}.*", matcher="glob", timeout=5, limit=1))


def agent() -> bool:
    """This host's agent has written its row a moment ago."""
    return Host.objects.answering().filter(name=settings.ENV.cortex_host_name).exists()


def beat() -> bool:
    """Beat has written its schedule lately."""
    files = settings.ENV.cortex_state.glob("beat-schedule*")
    return any(time.time() - file.stat().st_mtime < BEAT_SILENT_AFTER for file in files)


CHECKS = {"worker": worker, "agent": agent, "beat": beat}


class Command(BaseCommand):
    help = "Exits with 0 while the worker, agent or beat of this host works, and with 1 when it does not."
    requires_system_checks = ()

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("role", choices=CHECKS)

    def handle(self, *args: Any, role: str, **options: Any) -> None:
        if not CHECKS[role]():
            raise CommandError(f"The {role} of host {settings.ENV.cortex_host_name} has not been heard of lately.")
