"""Keys: random, shown once, kept as a digest, refused once revoked or expired; and the one-time setup token."""

from datetime import timedelta

import pytest
from django.utils import timezone

from cortex.access import setup
from cortex.access.models import ApiKey, Person, Role, Scope

pytestmark = pytest.mark.django_db


def test_a_key_is_found_by_its_secret_which_is_nowhere_kept(alice: Person) -> None:
    key, secret = ApiKey.objects.issue(alice, "laptop", [Scope.INFER])
    assert ApiKey.objects.find(secret) == key
    assert secret not in str(ApiKey.objects.values().get())
    assert key.allows(Scope.INFER)
    assert not key.allows(Scope.MANAGE)


@pytest.mark.parametrize("wrong", ["", "ctx", "ctx_00000000_", "Bearer x", "ctx_{prefix}_wrong", "{secret}x"])
def test_a_wrong_secret_finds_nothing(alice: Person, wrong: str) -> None:
    key, secret = ApiKey.objects.issue(alice, "laptop", [])
    assert ApiKey.objects.find(wrong.format(prefix=key.prefix, secret=secret)) is None


def test_revoked_expired_and_orphaned_keys_are_refused(alice: Person, bob: Person) -> None:
    revoked, first = ApiKey.objects.issue(alice, "a", [])
    revoked.revoke()
    _, second = ApiKey.objects.issue(alice, "b", [], timezone.now() - timedelta(seconds=1))
    _, third = ApiKey.objects.issue(bob, "c", [])
    bob.is_active = False
    bob.save()
    assert [ApiKey.objects.find(secret) for secret in (first, second, third)] == [None, None, None]


def test_the_setup_token_makes_one_administrator_once() -> None:
    token = setup.new_token()
    assert setup.make_first_admin("wrong", "eve", "a long password") is None
    admin = setup.make_first_admin(token, "ada", "a long password")
    assert admin
    assert admin.role == Role.ADMIN
    assert setup.make_first_admin(token, "eve", "a long password") is None
    assert not setup.is_needed()


def test_a_newer_setup_token_voids_the_one_before() -> None:
    old = setup.new_token()
    new = setup.new_token()
    assert (setup.is_valid(old), setup.is_valid(new)) == (False, True)


def test_no_setup_token_is_good_once_there_is_an_administrator(alice: Person) -> None:
    assert not setup.is_valid(setup.new_token())
