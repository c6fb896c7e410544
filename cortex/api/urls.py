"""Addresses of this door."""

from django.urls import path, re_path, register_converter

from cortex.api.views import (
    attempts,
    engines,
    estimates,
    health,
    hosts,
    keys,
    logs,
    models,
    orders,
    pages,
    problem_pages,
    strays,
)


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
    path("models/<name:name>/attempts", attempts.Attempts.as_view(), name="attempts"),
    path("models/<name:name>/logs", logs.Logs.as_view(), name="logs"),
    path("estimates", estimates.Estimates.as_view(), name="estimates"),
    path("estimates/stack", estimates.Stacks.as_view(), name="estimate-stack"),
    path("engines", engines.Engines.as_view(), name="engines"),
    path("engines/<name:name>/schema", engines.EngineSchema.as_view(), name="engine"),
    path("hosts", hosts.Hosts.as_view(), name="hosts"),
    path("hosts/<name:name>", hosts.OneHost.as_view(), name="host"),
    path("hosts/<name:name>/orders", orders.HostOrders.as_view(), name="host-orders"),
    path("strays", strays.Strays.as_view(), name="strays"),
    path("strays/<int:id>/confirm", strays.Confirm.as_view(), name="stray-confirm"),
    path("gpus", hosts.Gpus.as_view(), name="gpus"),
    path("files", hosts.Files.as_view(), name="files"),
    path("keys", keys.Keys.as_view(), name="keys"),
    path("keys/<int:id>", keys.OneKey.as_view(), name="key"),
    path("health", health.Health.as_view(), name="health"),
    path("health/live", health.Live.as_view(), name="live"),
    path("schema", pages.Schema.as_view(), name="schema"),
    path("docs", pages.Docs.as_view(), name="docs"),
    path("operations/<int:id>", orders.Operation.as_view(), name="operation"),
    path("problems/<slug:code>", problem_pages.ProblemPage.as_view(), name="problem"),
    re_path(r"", problem_pages.Nowhere.as_view(), name="nowhere"),
]
