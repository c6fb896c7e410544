"""The Celery application: queues `default` and `host.<name>`, ticks by beat."""

import os

from celery import Celery
from django.conf import settings

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "cortex.settings")

app = Celery("cortex")
app.conf.update(settings.CELERY)
app.autodiscover_tasks(["cortex.orchestration"])
