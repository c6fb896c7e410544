"""Django's name for this room: it has commands, and no tables."""

from django.apps import AppConfig


class OrchestrationConfig(AppConfig):
    name = "cortex.orchestration"
    label = "orchestration"
