"""`manage.py setup_link`: where the first administrator's account is made."""

from typing import Any

from django.conf import settings
from django.core.management.base import BaseCommand, CommandParser

from cortex.access import setup


class Command(BaseCommand):
    help = "Prints a one-time link that makes the first administrator; the link before it is void."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("--quiet", action="store_true", help="print nothing once there is an administrator")

    def handle(self, *args: Any, quiet: bool, **options: Any) -> None:
        if setup.is_needed():
            self.stdout.write(f"{settings.ENV.cortex_web_url}/setup?token={setup.new_token()}")
        elif not quiet:
            self.stdout.write(f"{settings.ENV.cortex_web_url} (an administrator exists: sign in there)")
