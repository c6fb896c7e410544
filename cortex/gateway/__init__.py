"""The one door to every model: OpenAI's API as a raw ASGI application, in front of the engines."""

import os

import django

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "cortex.settings")
django.setup()  # no handler of Django's runs here: its models must be ready before our modules import them
