"""Every page by who asks: what it shows, what it refuses, what it writes."""

import pytest
from django.test import Client

from cortex.access.models import Person
from tests import scene

PAGES = ["/", "/define", "/hosts", "/keys", "/models/qwen3-30b-a3b", "/models/llama-3.3-70b", "/models/gemma-3-12b/edit"]


@pytest.fixture
def client_of(client: Client):  # type: ignore[no-untyped-def]
    def signed_in(person: Person) -> Client:
        client.force_login(person)
        return client

    return signed_in


@pytest.mark.parametrize("path", PAGES)
def test_an_administrator_sees_every_page(client_of, alice: Person, path: str) -> None:  # type: ignore[no-untyped-def]
    scene.whole_fleet(alice)
    assert client_of(alice).get(path).status_code == 200


def test_the_login_page(client: Client, alice: Person) -> None:
    assert client.get("/login").status_code == 200
