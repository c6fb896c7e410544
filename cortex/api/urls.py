"""Addresses of this door."""

from django.urls import path, re_path, register_converter

from cortex.api.views import models, orders, problem_pages


class NameConverter:
    """A name in an address: anything that can be a key, so that a wrong one is a clear 404."""

    regex = r"[^/\x00]{1,200}"

    def to_python(self, value: str) -> str:
        return value

    def to_url(self, value: str) -> str:
        return value


register_converter(NameConverter, "name")

app_name = "api"
urlpatterns = [
    path("models", models.Models.as_view(), name="models"),
    path("models/<name:name>", models.OneModel.as_view(), name="model"),
    path("models/<name:name>/start", models.Start.as_view(), name="start"),
    path("models/<name:name>/stop", models.Stop.as_view(), name="stop"),
    path("models/<name:name>/restart", models.Restart.as_view(), name="restart"),
    path("models/<name:name>/orders", orders.ModelOrders.as_view(), name="orders"),
    path("operations/<int:id>", orders.Operation.as_view(), name="operation"),
    path("problems/<slug:code>", problem_pages.ProblemPage.as_view(), name="problem"),
    re_path(r"", problem_pages.Nowhere.as_view(), name="nowhere"),
]
