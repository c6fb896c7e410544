"""Who may do what: everybody known may look; changing models takes an operator."""

from typing import TYPE_CHECKING, ClassVar

from rest_framework.permissions import SAFE_METHODS, BasePermission
from rest_framework.request import Request

from cortex.access.models import Person

if TYPE_CHECKING:
    from rest_framework.views import APIView  # it loads the default permissions: this module


class RoleAllows(BasePermission):
    """Default of every view: strangers get nothing, viewers read, operators and admins change models."""

    message: ClassVar[str] = "Your role may look and not change: ask an administrator for the role of operator."

    def has_permission(self, request: Request, view: "APIView") -> bool:
        person = request.user
        if not isinstance(person, Person):
            return False
        return request.method in SAFE_METHODS or person.may_change_models()


class IsKnown(BasePermission):
    """For what people do with their own things: any role."""

    def has_permission(self, request: Request, view: "APIView") -> bool:
        return isinstance(request.user, Person)
