"""The way in: the first administrator, signing in and out."""

from typing import Any

from django.conf import settings
from django.contrib.auth import login
from django.contrib.auth.forms import AuthenticationForm, UserCreationForm
from django.contrib.auth.views import LoginView, LogoutView
from django.http import HttpRequest, HttpResponse
from django.http.response import HttpResponseBase
from django.shortcuts import redirect, render
from django.views.decorators.cache import never_cache
from django.views.decorators.debug import sensitive_post_parameters

from cortex.access import setup
from cortex.access.models import Person


class FirstAdmin(UserCreationForm):  # type: ignore[type-arg]  # not generic at run time
    """A name and a password, twice."""

    class Meta:
        model = Person
        fields = ("username",)
        help_texts = {"username": "Letters, digits and @ . + - _"}

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.fields["password1"].help_text = "At least 8 characters, and not one that everybody uses."
        self.fields["password2"].help_text = ""
        self.fields["password2"].label = "Password again"


@never_cache
@sensitive_post_parameters()
def first_run(request: HttpRequest) -> HttpResponse:
    """Make the first administrator with the one-time token; without one, say where to find it."""
    if not setup.is_needed():
        return redirect("ui:login")
    token = request.POST.get("token") or request.GET.get("token", "")
    if not setup.is_valid(token):
        return render(request, "ui/setup_link.html", {"wrong": bool(token)}, status=403 if token else 200)
    form = FirstAdmin(request.POST or None)
    if request.method == "POST" and form.is_valid():
        admin = setup.make_first_admin(token, form.cleaned_data["username"], form.cleaned_data["password1"])
        if admin is None:
            return render(request, "ui/setup_link.html", {"wrong": True}, status=403)
        login(request, admin)
        return redirect("ui:models")
    status = 422 if form.is_bound else 200
    return render(request, "ui/setup.html", {"form": form, "token": token}, status=status)


class _SignIn(LoginView):
    template_name = "ui/login.html"
    redirect_authenticated_user = True

    def dispatch(self, request: HttpRequest, *args: object, **kwargs: object) -> HttpResponseBase:
        return redirect("ui:setup") if setup.is_needed() else super().dispatch(request, *args, **kwargs)

    def form_invalid(self, form: AuthenticationForm) -> HttpResponse:
        return self.render_to_response(self.get_context_data(form=form), status=422)


sign_in = _SignIn.as_view()
sign_out = LogoutView.as_view(next_page=settings.LOGOUT_REDIRECT_URL)
