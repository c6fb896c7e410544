"""Static files for browsers: WhiteNoise, with answers in one piece."""

from contextlib import closing

from django.http import HttpRequest, HttpResponse
from whitenoise.middleware import WhiteNoiseMiddleware
from whitenoise.responders import StaticFile


class StaticFiles(WhiteNoiseMiddleware):  # type: ignore[misc]  # it has no types
    """Behind ASGI, Django reads a file's pieces to the end before it sends a byte, and warns: so give it the bytes."""

    @staticmethod
    def serve(static_file: StaticFile, request: HttpRequest) -> HttpResponse:
        with closing(WhiteNoiseMiddleware.serve(static_file, request)) as found:
            whole = HttpResponse(b"".join(found), status=found.status_code, headers=found.headers)
        if not found.has_header("Content-Type"):  # a 304 says nothing of what the browser holds
            del whole["Content-Type"]
        return whole
