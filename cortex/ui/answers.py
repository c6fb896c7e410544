"""What views answer: a part of a page only when it changed, and words that tell what was done."""

import hashlib
import json
from typing import Any
from urllib.parse import urlsplit

from django.contrib import messages
from django.http import HttpRequest, HttpResponse
from django.http.response import HttpResponseBase, HttpResponseRedirect
from django.shortcuts import render
from django.template.loader import render_to_string
from django_htmx.http import HttpResponseClientRedirect


def by_htmx(request: HttpRequest) -> bool:
    return request.headers.get("HX-Request") == "true"


def live(request: HttpRequest, page: str, part: str, context: dict[str, Any]) -> HttpResponse:
    """The whole page, or for htmx the part of it that lives; 304 while that part has not changed."""
    if not by_htmx(request):
        return render(request, page, {**context, "part": part})
    body = render_to_string(part, context, request)
    tag = hashlib.sha256(body.encode()).hexdigest()[:20]
    if request.headers.get("HX-PTag") == tag:
        return HttpResponse(status=304)
    return HttpResponse(body, headers={"HX-PTag": tag, "Cache-Control": "no-store", "Vary": "HX-Request"})


def with_toast(response: HttpResponse, words: str, *, error: bool = False) -> HttpResponse:
    """Have the page say `words`, and look at what lives on it again."""
    told = {"cortex:toast": {"words": words, "error": error}, "cortex:done": {}}
    response["HX-Trigger"] = json.dumps({"cortex:toast": told["cortex:toast"]} if error else told)
    return response


def done(request: HttpRequest, words: str, there: str) -> HttpResponseBase:
    """A verb was carried out: a toast on the page it was asked from, or the page `there` with the words on it."""
    if by_htmx(request) and urlsplit(request.headers.get("HX-Current-URL", "")).path == there:
        return with_toast(HttpResponse(status=204), words)
    messages.success(request, words)
    return HttpResponseClientRedirect(there) if by_htmx(request) else HttpResponseRedirect(there)
