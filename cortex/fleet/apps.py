"""Django's name for this room."""

from django.apps import AppConfig


class FleetConfig(AppConfig):
    name = "cortex.fleet"
    label = "fleet"
