"""Every request has an id: the caller's own or a new one, echoed and named in every problem."""

import re
from uuid import uuid4

from django.http import HttpRequest
from django.http.response import HttpResponseBase
from django.utils.deprecation import MiddlewareMixin

HEADER = "X-Request-Id"
KEY = "HTTP_X_REQUEST_ID"
GOOD = re.compile(r"[\w.:-]{1,100}", re.ASCII)


class RequestId(MiddlewareMixin):
    """Middleware, the outermost."""

    def process_request(self, request: HttpRequest) -> None:
        given = request.META.get(KEY, "")
        request.META[KEY] = given if GOOD.fullmatch(given) else uuid4().hex

    def process_response(self, request: HttpRequest, response: HttpResponseBase) -> HttpResponseBase:
        response[HEADER] = of(request)
        return response


def of(request: HttpRequest) -> str:
    return str(request.META.get(KEY, ""))
