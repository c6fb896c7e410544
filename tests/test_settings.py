"""Settings fail loudly, and their page tells the truth."""

from pathlib import Path

import pytest
from pydantic import ValidationError

from cortex.settings import Environment, _broker, _database, _secret_key
from tools import settings_page


def test_the_page_of_settings_is_current() -> None:
    assert settings_page.PAGE.read_text() == settings_page.page(), "run: python -m tools.settings_page"


def test_a_database_url_that_is_none_is_refused_by_name(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DATABASE_URL", "mysql://nowhere")
    with pytest.raises(ValidationError, match="DATABASE_URL"):
        Environment()


@pytest.mark.parametrize("url", ["amqp://somewhere", "somewhere"])
def test_a_broker_url_that_is_none_is_refused_by_name(monkeypatch: pytest.MonkeyPatch, url: str) -> None:
    monkeypatch.setenv("BROKER_URL", url)
    with pytest.raises(ValidationError, match="BROKER_URL must begin with redis://"):
        Environment()


def test_images_must_name_their_engine(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CORTEX_IMAGES", "some/image:1")
    with pytest.raises(ValidationError, match="engine=image"):
        Environment()


def test_a_password_file_wins_over_the_url(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "password").write_text("secret\n")
    monkeypatch.setenv("DATABASE_URL", "postgresql://cortex:other@db:5433/cortex")
    monkeypatch.setenv("DATABASE_PASSWORD_FILE", str(tmp_path / "password"))
    database = _database(Environment())
    assert (database["PASSWORD"], database["HOST"], database["PORT"]) == ("secret", "db", "5433")


@pytest.mark.parametrize(
    ("url", "whole"),
    [
        ("redis://broker:6379/0", "redis://:s%2Fecret@broker:6379/0"),
        (
            "rediss://cortex@broker/1?ssl_cert_reqs=required",
            "rediss://cortex:s%2Fecret@broker/1?ssl_cert_reqs=required",
        ),
        ("redis://:other@[fd00::1]:6379/0", "redis://:s%2Fecret@[fd00::1]:6379/0"),
    ],
)
def test_the_brokers_password_comes_from_its_file(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, url: str, whole: str
) -> None:
    (tmp_path / "password").write_text("s/ecret\n")
    monkeypatch.setenv("BROKER_URL", url)
    monkeypatch.setenv("BROKER_PASSWORD_FILE", str(tmp_path / "password"))
    assert _broker(Environment()) == whole


def test_what_a_database_url_asks_of_tls_is_done(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DATABASE_URL", "postgresql://cortex@db/cortex?sslmode=verify-full&sslrootcert=/ca.pem")
    options = _database(Environment())["OPTIONS"]
    assert (options["sslmode"], options["sslrootcert"]) == ("verify-full", "/ca.pem")


def test_the_signing_key_is_made_once_for_its_owner_alone(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("CORTEX_STATE", str(tmp_path))
    first = _secret_key(Environment())
    assert first == _secret_key(Environment())
    assert len(first) > 40
    assert (tmp_path / "secret-key").stat().st_mode & 0o077 == 0
