"""Who we are: made once, asked once, and never by what was taken back."""

import pytest
from django.db import connection, transaction
from django.test.utils import CaptureQueriesContext

from cortex.fleet.models import Install


@pytest.mark.django_db(transaction=True)
def test_the_database_is_asked_once_a_process() -> None:
    first = Install.identity()
    with CaptureQueriesContext(connection) as queries:
        assert Install.identity() == first == Install.objects.get().id.hex
    assert len(queries) == 1  # that of the test itself


@pytest.mark.django_db(transaction=True)
def test_an_identity_that_was_taken_back_is_not_remembered() -> None:
    with transaction.atomic():
        never = Install.identity()
        assert Install.identity() == never
        transaction.set_rollback(True)
    assert Install.identity() == Install.objects.get().id.hex != never
