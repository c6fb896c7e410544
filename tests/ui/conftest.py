"""Signed-in clients of the cast."""

from collections.abc import Callable

import pytest
from django.test import Client

from cortex.access.models import Person

SignIn = Callable[[Person], Client]


@pytest.fixture
def at() -> SignIn:
    """The UI, as this person sees it."""

    def signed_in(person: Person) -> Client:
        client = Client(enforce_csrf_checks=False)
        client.force_login(person)
        return client

    return signed_in
