"""`manage.py agent`: the small process on each host."""

import signal
from typing import Any

from django.core.management.base import BaseCommand, CommandError

from cortex.orchestration.agent import Agent
from cortex.orchestration.identity import NameTaken
from cortex.orchestration.runtimes import here


class Command(BaseCommand):
    help = "Watches this host: events, logs, fetches, cards. One a host."
    requires_system_checks = ()

    def handle(self, *args: Any, **options: Any) -> None:
        agent = Agent(here())
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, lambda *_: agent.stop())
        try:
            agent.run()
        except NameTaken as refusal:
            raise CommandError(str(refusal)) from None
