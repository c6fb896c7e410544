"""Static files for browsers: WhiteNoise, with answers in one piece."""

from django.http import HttpRequest, HttpResponse
from whitenoise.middleware import WhiteNoiseMiddleware
from whitenoise.responders import StaticFile


class StaticFiles(WhiteNoiseMiddleware):  # type: ignore[misc]  # it has no types
    """Behind ASGI, Django reads a file's pieces to the end before it sends a byte, and warns: so give it the bytes."""

    @staticmethod
    def serve(static_file: StaticFile, request: HttpRequest) -> HttpResponse:
        found = static_file.get_response(request.method, request.META)
        body = b""
        if found.file is not None:
            with found.file:
                body = found.file.read()
        whole = HttpResponse(body, status=int(found.status))
        del whole["Content-Type"]  # a 304 says nothing of what the browser holds
        for name, value in found.headers:
            whole[name] = value
        return whole
