"""Keys of programs: issued once in sight, revoked for ever."""

from datetime import timedelta

from django import forms
from django.contrib import messages
from django.http import Http404, HttpRequest
from django.http.response import HttpResponseBase
from django.shortcuts import redirect, render
from django.utils import timezone
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_POST

from cortex.access.models import ApiKey, KeyQuerySet, Person, Scope
from cortex.ui.gate import person, signed_in
from cortex.ui.views.chat import KEY_NAME

LIFETIMES = [("", "Never"), ("30", "In 30 days"), ("90", "In 90 days"), ("365", "In a year")]
SCOPES = [(Scope.INFER.value, "Use models, through the gateway"), (Scope.MANAGE.value, "Manage, through REST")]


class NewKey(forms.Form):
    name = forms.CharField(max_length=100, label="Name", help_text="Which program will hold it.")
    scopes = forms.MultipleChoiceField(
        choices=SCOPES,
        widget=forms.CheckboxSelectMultiple,
        initial=[Scope.INFER.value],
        label="What it opens",
        error_messages={"required": "Choose what the key opens."},
    )
    expires = forms.ChoiceField(choices=LIFETIMES, required=False, label="Expires")


@never_cache
@signed_in
def keys(request: HttpRequest) -> HttpResponseBase:
    """The keys one may see, and a new one. Its secret is in this one answer and nowhere else."""
    form, secret = NewKey(request.POST or None), ""
    if request.method == "POST" and form.is_valid():
        _, secret = _issue(person(request), form)
        form = NewKey()
    context = {"keys": _visible(person(request)), "form": form, "secret": secret}
    return render(request, "ui/keys.html", context, status=422 if form.is_bound else 200)


@require_POST
@signed_in
def revoke(request: HttpRequest, id: int) -> HttpResponseBase:
    """One's own key, or anybody's for an administrator."""
    key = _visible(person(request)).filter(id=id, revoked_at=None).first()
    if key is None:
        raise Http404("There is no such live key among those you may revoke.")
    key.revoke()
    messages.success(request, f"{key.name} is revoked: programs that hold it are refused from now on.")
    return redirect("ui:keys")


def _issue(owner: Person, form: NewKey) -> tuple[ApiKey, str]:
    days = form.cleaned_data["expires"]
    ends = timezone.now() + timedelta(days=int(days)) if days else None
    return ApiKey.objects.issue(owner, form.cleaned_data["name"], form.cleaned_data["scopes"], ends)


def _visible(who: Person) -> KeyQuerySet:
    found = ApiKey.objects.select_related("owner").exclude(name=KEY_NAME).order_by("revoked_at", "-created_at")
    return found if who.may_change_access() else found.filter(owner=who)
