"""`manage.py fsck`: whether what always holds does, in the rows and in this host's containers."""

from typing import Any

from django.core.management.base import BaseCommand, CommandError

from cortex.orchestration import fsck
from cortex.orchestration.runtimes import here
from cortex.runtime.contract import Unreachable


class Command(BaseCommand):
    help = "Checks what always holds: rows of every host, containers of this one. Exits with 1 when something does not."

    def handle(self, *args: Any, **options: Any) -> None:
        place = here()
        found = fsck.rows()
        try:
            found += fsck.containers(place.host, place.runtime)
        except Unreachable as fault:
            self.stdout.write(f"The containers of {place.host} are not compared: {fault}")
        for violation in found:
            self.stdout.write(str(violation))
        if found:
            raise CommandError(f"{len(found)} violations.", returncode=1)
        self.stdout.write("Everything holds.")
