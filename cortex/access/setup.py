"""First run: a one-time token makes the first administrator."""

import hmac
import secrets

from django.db import transaction

from cortex.access.models import Person, Role, SetupToken, digest


def is_needed() -> bool:
    """Nobody can administer this installation yet."""
    return not Person.objects.filter(role=Role.ADMIN, is_active=True).exists()


def new_token() -> str:
    """A fresh token; the one before it is void."""
    token = secrets.token_urlsafe(24)
    with transaction.atomic():
        SetupToken.objects.all().delete()
        SetupToken.objects.create(digest=digest(token))
    return token


def is_valid(token: str) -> bool:
    held = SetupToken.objects.first()
    return is_needed() and hmac.compare_digest(held.digest if held else "0" * 64, digest(token))


def make_first_admin(token: str, username: str, password: str) -> Person | None:
    """The first administrator, or None when the token is not (or no longer) good."""
    with transaction.atomic():
        SetupToken.objects.select_for_update().first()
        if not is_valid(token):
            return None
        SetupToken.objects.all().delete()
        return Person.objects.create_user(username=username, password=password, role=Role.ADMIN)
