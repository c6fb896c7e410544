"""Addresses of this door."""

from django.urls import path

from cortex.ui.views import chat, detail, editing, entrance, host_orders, hosts, keys, listing, log, orders, planning

app_name = "ui"
urlpatterns = [
    path("", listing.models, name="models"),
    path("setup", entrance.first_run, name="setup"),
    path("login", entrance.sign_in, name="login"),
    path("logout", entrance.sign_out, name="logout"),
    path("define", editing.define, name="define"),
    path("define/engine", editing.engine_part, name="engine-part"),
    path("define/estimate", editing.estimate, name="estimate"),
    path("models/<str:name>", detail.model, name="model"),
    path("models/<str:name>/edit", editing.edit, name="edit"),
    path("models/<str:name>/log", log.lines, name="log"),
    path("models/<str:name>/chat", chat.relay, name="chat"),
    path("models/<str:name>/start", orders.give, {"verb": "start"}, name="start"),
    path("models/<str:name>/stop", orders.give, {"verb": "stop"}, name="stop"),
    path("models/<str:name>/restart", orders.give, {"verb": "restart"}, name="restart"),
    path("models/<str:name>/remove", orders.give, {"verb": "remove"}, name="remove"),
    path("plan", planning.plan, name="plan"),
    path("hosts", hosts.hosts, name="hosts"),
    path("hosts/<str:name>/cordon", host_orders.cordon, {"cordoned": True}, name="cordon"),
    path("hosts/<str:name>/uncordon", host_orders.cordon, {"cordoned": False}, name="uncordon"),
    path("hosts/<str:name>/drain", host_orders.drain, {"draining": True}, name="drain"),
    path("hosts/<str:name>/undrain", host_orders.drain, {"draining": False}, name="undrain"),
    path("hosts/<str:name>/labels", host_orders.labels, name="host-labels"),
    path("hosts/<str:name>/forget", host_orders.forget, name="forget"),
    path("strays/<int:id>/remove", host_orders.remove_stray, name="remove-stray"),
    path("keys", keys.keys, name="keys"),
    path("keys/<int:id>/revoke", keys.revoke, name="revoke"),
]
