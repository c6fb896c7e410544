"""The try-it chat: a person's words go to the gateway as any program's would, and the answer streams back."""

import asyncio
import json
import logging
from collections.abc import AsyncIterator
from datetime import timedelta

import aiohttp
from asgiref.sync import sync_to_async
from django.conf import settings
from django.http import HttpRequest, JsonResponse, StreamingHttpResponse
from django.http.response import HttpResponseBase
from django.utils import timezone

from cortex.access.models import ApiKey, Scope
from cortex.ui.gate import person, turned_away

log = logging.getLogger(__name__)
SECRET = "chat_key"  # noqa: S105 - where the session keeps it
KEY_NAME = "try-it chat"
LIVES = timedelta(days=1)
WAIT = aiohttp.ClientTimeout(total=None, connect=5, sock_read=300)


async def relay(request: HttpRequest, name: str) -> HttpResponseBase:
    """POST an OpenAI chat body without its model; the gateway's events come back as they are."""
    if away := await sync_to_async(turned_away)(request):
        return away
    if request.method != "POST":
        return JsonResponse({"error": {"message": "Send a POST with the messages."}}, status=405)
    try:
        body = json.dumps({**json.loads(request.body), "model": name, "stream": True})
    except (ValueError, TypeError):
        return JsonResponse({"error": {"message": "Send a JSON object with the messages."}}, status=400)
    secret = await sync_to_async(_secret)(request)
    session = aiohttp.ClientSession(timeout=WAIT)
    try:
        answer = await session.post(
            f"{_gateway()}/v1/chat/completions",
            data=body,
            headers={"Authorization": f"Bearer {secret}", "Content-Type": "application/json"},
        )
    except (aiohttp.ClientError, TimeoutError) as error:
        await session.close()
        log.warning("the gateway at %s does not answer: %s", _gateway(), error)
        return JsonResponse({"error": {"message": f"The gateway does not answer at {_gateway()}."}}, status=502)
    except asyncio.CancelledError:
        await session.close()
        raise
    return StreamingHttpResponse(
        _events(session, answer),
        status=answer.status,
        content_type=answer.headers.get("Content-Type", "text/event-stream"),
        headers={"Cache-Control": "no-store", "X-Accel-Buffering": "no"},
    )


async def _events(session: aiohttp.ClientSession, answer: aiohttp.ClientResponse) -> AsyncIterator[bytes]:
    """The answer's bytes; the gateway's end is closed with ours, so that nobody computes for nobody."""
    try:
        async for chunk in answer.content.iter_any():
            yield chunk
    except aiohttp.ClientError as error:
        log.warning("the gateway broke off: %s", error)
        yield b'data: {"error": {"message": "The answer broke off: the gateway closed the connection."}}\n\n'
    finally:
        answer.close()
        await session.close()


def _gateway() -> str:
    return (settings.ENV.cortex_gateway_inside_url or settings.ENV.cortex_gateway_url).rstrip("/")


def _secret(request: HttpRequest) -> str:
    """A key of this person for a day, known to their session alone."""
    secret: str = request.session.get(SECRET, "")
    if secret and ApiKey.objects.find(secret):
        return secret
    ends = timezone.now() + LIVES
    _, secret = ApiKey.objects.issue(person(request), KEY_NAME, [Scope.INFER], expires_at=ends)
    request.session[SECRET] = secret
    return secret
