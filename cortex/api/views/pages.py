"""The OpenAPI document and the page to try it, which takes a key and no cookie."""

from csp.constants import SELF, UNSAFE_INLINE
from csp.decorators import csp_update
from django.utils.decorators import method_decorator
from drf_spectacular.views import SpectacularAPIView, SpectacularSwaggerSplitView


class Schema(SpectacularAPIView):
    """The same document as docs/openapi.yaml."""

    authentication_classes = []


@method_decorator(csp_update({"style-src": [SELF, UNSAFE_INLINE]}), name="dispatch")
class Docs(SpectacularSwaggerSplitView):
    """Swagger UI from our own static files. It writes styles of its own, so this one page may have them inline."""

    authentication_classes = []
    url_name = "api:schema"
