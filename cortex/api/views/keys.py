"""Keys of programs: people handle their own, administrators everybody's."""

from django.db.models import QuerySet
from drf_spectacular.utils import extend_schema
from rest_framework import status
from rest_framework.exceptions import NotFound, PermissionDenied
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from cortex.access.models import ApiKey, Person
from cortex.api import documented, paging, reading, shapes
from cortex.api.permissions import IsKnown, person_of
from cortex.catalog.definition import Problem, Refusal


class Keys(APIView):
    """Keys that the caller may see."""

    permission_classes = [IsKnown]

    @extend_schema(operation_id="list_keys", parameters=documented.PAGE, responses=documented.page_of(shapes.KeyAnswer))
    def get(self, request: Request) -> Response:
        """List keys, the newest first; administrators see everybody's."""
        page = paging.page(request, _visible(person_of(request)), "id", newest_first=True)
        return Response(page.answer(lambda row: _key(row).model_dump(mode="json")))

    @extend_schema(
        operation_id="issue_key",
        request=shapes.KeyRequest,
        responses=documented.answers({201: shapes.IssuedKeyAnswer}, 400),
    )
    def post(self, request: Request) -> Response:
        """Issue a key. Its secret is in this answer and nowhere else, ever."""
        wish = reading.into(shapes.KeyRequest, reading.body(request))
        owner = _owner(person_of(request), wish.owner)
        key, secret = ApiKey.objects.issue(owner, wish.name, sorted(set(wish.scopes)), wish.expires_at)
        answer = shapes.IssuedKeyAnswer(**_key(key).model_dump(), secret=secret)
        return Response(answer.model_dump(mode="json"), status=status.HTTP_201_CREATED)


class OneKey(APIView):
    """One key."""

    permission_classes = [IsKnown]

    @extend_schema(operation_id="revoke_key", responses=documented.answers({200: shapes.KeyAnswer}, 404))
    def delete(self, request: Request, id: int) -> Response:
        """Revoke a key: it opens nothing from now on."""
        key = _visible(person_of(request)).filter(id=min(id, 2**63 - 1)).first()
        if key is None:
            raise NotFound(f"You have no key {id}.")
        if key.revoked_at is None:
            key.revoke()
        return Response(_key(key).model_dump(mode="json"))


def _visible(person: Person) -> "QuerySet[ApiKey]":
    keys = ApiKey.objects.select_related("owner")
    return keys if person.may_change_access() else keys.filter(owner=person)


def _owner(person: Person, name: str | None) -> Person:
    if name is None or name == person.username:
        return person
    if not person.may_change_access():
        raise PermissionDenied("Only administrators issue keys for others.")
    owner = Person.objects.filter(username=name, is_active=True).first()
    if owner is None:
        problem = Problem("/owner", f"There is no person named {name!r}.", "Check the name under People in the UI.")
        raise Refusal("The key's owner is not known.", [problem])
    return owner


def _key(row: ApiKey) -> shapes.KeyAnswer:
    return shapes.KeyAnswer(
        id=row.id,
        name=row.name,
        prefix=row.prefix,
        owner=row.owner.username,
        scopes=row.scopes,
        created_at=row.created_at,
        expires_at=row.expires_at,
        last_used_at=row.last_used_at,
        revoked_at=row.revoked_at,
    )
