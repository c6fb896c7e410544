"""Who may come in: every view bears one of these decorators, and a test holds them to it."""

from collections.abc import Callable
from functools import wraps
from typing import Any, cast

from django.contrib.auth.views import redirect_to_login
from django.http import HttpRequest, HttpResponse
from django.http.response import HttpResponseBase
from django.shortcuts import render, resolve_url
from django.urls import reverse
from django_htmx.http import HttpResponseClientRedirect

from cortex.access import setup
from cortex.access.models import Person
from cortex.ui.answers import by_htmx, with_toast

View = Callable[..., HttpResponseBase]

NOT_MODELS = "Your role is viewer: you see models, but do not change them. An administrator can make you an operator."
NOT_ACCESS = "Only administrators change who may do what. Ask one of them."


def person(request: HttpRequest) -> Person:
    """Who asks; known only behind one of the decorators below."""
    return cast(Person, request.user)


def turned_away(request: HttpRequest) -> HttpResponseBase | None:
    """Where a stranger is sent: to the first-run page while nobody can administer, else to sign in."""
    if request.user.is_authenticated:
        return None
    if setup.is_needed():
        there = reverse("ui:setup")
    else:
        here = request.get_full_path() if request.method == "GET" and not by_htmx(request) else reverse("ui:models")
        there = redirect_to_login(here, resolve_url("ui:login"))["Location"]
    if by_htmx(request):
        return HttpResponseClientRedirect(there)
    return HttpResponse(status=302, headers={"Location": there})


def refused(request: HttpRequest, words: str) -> HttpResponse:
    """403, with words: a page, or a toast where only a part of the page was asked for."""
    response = render(request, "ui/refused.html", {"words": words}, status=403)
    if by_htmx(request):
        response["HX-Reswap"] = "none"
        return with_toast(response, words, error=True)
    return response


def signed_in(view: View) -> View:
    """Anybody with an account."""

    @wraps(view)
    def guarded(request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponseBase:
        return turned_away(request) or view(request, *args, **kwargs)

    return guarded


def changes_models(view: View) -> View:
    """Operators and administrators."""

    @signed_in
    @wraps(view)
    def guarded(request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponseBase:
        if not person(request).may_change_models():
            return refused(request, NOT_MODELS)
        return view(request, *args, **kwargs)

    return guarded


def changes_access(view: View) -> View:
    """Administrators."""

    @signed_in
    @wraps(view)
    def guarded(request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponseBase:
        if not person(request).may_change_access():
            return refused(request, NOT_ACCESS)
        return view(request, *args, **kwargs)

    return guarded
