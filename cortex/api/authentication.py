"""Who asks: the owner of the key in the Authorization header. Cookies open nothing here."""

from datetime import timedelta

from django.db.models import Q
from django.utils import timezone
from rest_framework.authentication import BaseAuthentication
from rest_framework.exceptions import AuthenticationFailed, PermissionDenied
from rest_framework.request import Request

from cortex.access.models import ApiKey, Person, Scope

NOTED_EVERY = timedelta(minutes=1)


class KeyAuthentication(BaseAuthentication):
    """`Authorization: Bearer ctx_…`, a live key of scope `manage`."""

    def authenticate(self, request: Request) -> tuple[Person, ApiKey] | None:
        header = request.headers.get("Authorization", "").strip()
        if not header:
            return None
        word, _, secret = header.partition(" ")
        if word.lower() != "bearer" or not secret.strip():
            raise AuthenticationFailed("The Authorization header is not of the form 'Bearer KEY'.")
        key = ApiKey.objects.find(secret.strip())
        if key is None:
            raise AuthenticationFailed("This key is not known here, or it has expired or was revoked.")
        if not key.allows(Scope.MANAGE):
            raise PermissionDenied("This key opens the models' own API alone: it lacks the scope 'manage'.")
        _note_use(key)
        return key.owner, key

    def authenticate_header(self, request: Request) -> str:
        return 'Bearer realm="cortex"'


def _note_use(key: ApiKey) -> None:
    now = timezone.now()
    long_ago = Q(last_used_at=None) | Q(last_used_at__lt=now - NOTED_EVERY)
    ApiKey.objects.filter(long_ago, id=key.id).update(last_used_at=now)
