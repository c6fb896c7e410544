"""Every address of the web process."""

from django.urls import include, path

urlpatterns = [
    path("api/v1/", include("cortex.api.urls")),
    path("", include("cortex.ui.urls")),
]

handler500 = "cortex.ui.trouble.failed"
