"""The Celery application: queues `default` and `host.<name>`, ticks by beat."""

import os

from celery import Celery
from django.conf import settings

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "cortex.settings")

app = Celery("cortex")
app.conf.update(settings.CELERY)
if settings.ENV.broker_password_file:
    # Its commands take BROKER_URL from the environment themselves, without the password; these go before it.
    app.conf.update(broker_read_url=settings.BROKER_URL, broker_write_url=settings.BROKER_URL)
app.autodiscover_tasks(["cortex.orchestration"])
