import pytest
from django.db import OperationalError
from psycopg import errors

from cortex.telemetry.database import explained


def caused_by(cause: Exception) -> OperationalError:
    error = OperationalError("any words")
    error.__cause__ = cause
    return error


@pytest.mark.parametrize(
    ("kind", "code"),
    [
        (errors.DiskFull, "database_full"),
        (errors.AdminShutdown, "database_unreachable"),
        (errors.CannotConnectNow, "database_unreachable"),
        (errors.TooManyConnections, "database_refuses"),
        (errors.ReadOnlySqlTransaction, "database_refuses"),
    ],
)
def test_what_postgresql_says_is_told_apart(
    kind: type[errors.Error], code: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    said = type("Said", (), {"message_primary": "its own words"})
    monkeypatch.setattr(kind, "diag", said)
    told = explained(caused_by(kind("x")))
    assert (told.code, told.detail) == (code, "PostgreSQL says: its own words.")
    assert told.remedy.startswith("Nothing was changed, and models run on.")


def test_a_connection_that_broke_off_without_a_word_is_unreachable() -> None:
    assert explained(caused_by(errors.OperationalError("server closed the connection"))).code == "database_unreachable"
    assert explained(OperationalError("no route")).code == "database_unreachable"
