"""People and the keys of their programs."""

import hashlib
import hmac
import secrets
from datetime import datetime

from django.conf import settings
from django.contrib.auth.models import AbstractUser
from django.db import models
from django.db.models import Q
from django.utils import timezone


class Role(models.TextChoices):
    """What a person may do: each role may do all that the ones after it may."""

    ADMIN = "admin"
    OPERATOR = "operator"
    VIEWER = "viewer"


class Person(AbstractUser):
    """Somebody who signs in."""

    role = models.CharField(max_length=16, choices=Role.choices, default=Role.VIEWER)

    def may_change_models(self) -> bool:
        return self.is_active and self.role in (Role.ADMIN, Role.OPERATOR)

    def may_change_access(self) -> bool:
        return self.is_active and self.role == Role.ADMIN


class Scope(models.TextChoices):
    """What a key opens: the models' own API, or the management API with its owner's role."""

    INFER = "infer"
    MANAGE = "manage"


def digest(secret: str) -> str:
    """A key's fingerprint, peppered with the signing key: keys are random, so a fast hash suffices."""
    return hmac.new(settings.SECRET_KEY.encode(), secret.encode(), hashlib.sha256).hexdigest()


class KeyQuerySet(models.QuerySet["ApiKey"]):
    def live(self) -> "KeyQuerySet":
        return self.filter(
            Q(expires_at=None) | Q(expires_at__gt=timezone.now()), revoked_at=None, owner__is_active=True
        )

    def issue(
        self, owner: Person, name: str, scopes: list[str], expires_at: datetime | None = None
    ) -> tuple["ApiKey", str]:
        """A new key and its secret, which is shown once and never stored."""
        prefix = secrets.token_hex(4)
        secret = f"ctx_{prefix}_{secrets.token_urlsafe(32)}"
        key = self.create(
            owner=owner, name=name, prefix=prefix, digest=digest(secret), scopes=scopes, expires_at=expires_at
        )
        return key, secret

    def find(self, secret: str) -> "ApiKey | None":
        """The live key this secret belongs to. The same work is done whether or not the prefix is known."""
        parts = secret.split("_", 2)
        prefix = parts[1] if len(parts) == 3 else ""
        key = self.live().select_related("owner").filter(prefix=prefix).first()
        known = key.digest if key else "0" * 64
        return key if hmac.compare_digest(known, digest(secret)) else None


class ApiKey(models.Model):
    """A program's credential: `ctx_<prefix>_<secret>`; only its digest is kept."""

    owner = models.ForeignKey(Person, on_delete=models.CASCADE, related_name="keys")
    name = models.CharField(max_length=100)
    prefix = models.CharField(max_length=8, unique=True)
    digest = models.CharField(max_length=64)
    scopes = models.JSONField(default=list)
    created_at = models.DateTimeField(auto_now_add=True)
    expires_at = models.DateTimeField(null=True, blank=True)
    last_used_at = models.DateTimeField(null=True, blank=True)
    revoked_at = models.DateTimeField(null=True, blank=True)

    objects = KeyQuerySet.as_manager()

    def __str__(self) -> str:
        return f"{self.name} (ctx_{self.prefix}_…)"

    def allows(self, scope: Scope) -> bool:
        return scope.value in self.scopes

    def revoke(self) -> None:
        self.revoked_at = timezone.now()
        self.save(update_fields=["revoked_at"])


class SetupToken(models.Model):
    """The one-time key to the first administrator's account. There is at most one; using it removes it."""

    digest = models.CharField(max_length=64)
    created_at = models.DateTimeField(auto_now_add=True)

    def __str__(self) -> str:
        return f"setup token of {self.created_at:%Y-%m-%d %H:%M}"
