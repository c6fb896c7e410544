"""`manage.py gpus`: samples this host's cards where its agent cannot see them, as in compose's gpu profile."""

import logging
import signal
import threading
from typing import Any

from django.core.management.base import BaseCommand
from django.db import DatabaseError, close_old_connections

from cortex.orchestration import hosts, identity
from cortex.orchestration.agent import SAMPLE_EVERY
from cortex.orchestration.runtimes import here

log = logging.getLogger(__name__)


class Command(BaseCommand):
    help = "Samples this host's cards. Set CORTEX_SAMPLES_GPUS=false for its agent."
    requires_system_checks = ()

    def handle(self, *args: Any, **options: Any) -> None:
        stop = threading.Event()
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, lambda *_: stop.set())
        while not stop.is_set():
            try:
                if identity.is_ours(here()):
                    hosts.sample(here(), here().cards())
                else:
                    log.warning("host %s is another machine: its agent's log says more", here().host)
            except DatabaseError as error:
                log.warning("the sample is lost: %s", error)
            close_old_connections()
            stop.wait(SAMPLE_EVERY)
