"""`manage.py stop_models`: every model is to stop; waits until none runs."""

import time
from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser

from cortex.catalog.models import Desired, Model
from cortex.fleet.models import Replica
from cortex.fleet.states import Observed
from cortex.orchestration import orders


class Command(BaseCommand):
    help = "Orders every model to stop and waits until no container of ours runs."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("--timeout", type=float, default=120.0)

    def handle(self, *args: Any, timeout: float, **options: Any) -> None:
        for model in Model.objects.declared().filter(desired=Desired.RUNNING):
            orders.stop(model.name, None)
            self.stdout.write(f"stopping {model.name}")
        until = time.monotonic() + timeout
        left = Replica.objects.exclude(observed=Observed.ABSENT).select_related("model")
        while left.exists():
            if time.monotonic() > until:
                names = ", ".join(f"{replica} ({replica.observed})" for replica in left)
                raise CommandError(f"Not stopped within {timeout:.0f} s: {names}")
            time.sleep(0.2)
