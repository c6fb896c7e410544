"""Streams that end when those who watch may do so no longer."""

import asyncio
import logging
import time
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from contextlib import suppress

from asgiref.sync import sync_to_async
from django.db import DatabaseError
from rest_framework.request import Request

from cortex.access.models import ApiKey, Scope

log = logging.getLogger(__name__)

LOOK_EVERY = 10.0
ENDED = "-- cortex: this key may no longer watch --\n"


def may_watch(request: Request) -> Callable[[], bool]:
    """Whether the key that asked is still good. While the database is away it counts as such: nothing else is shown."""
    asked_with = request.auth

    def is_good() -> bool:
        if not isinstance(asked_with, ApiKey):
            return False
        try:
            key = ApiKey.objects.live().filter(id=asked_with.id).first()
        except DatabaseError as error:
            log.warning("whether a stream may go on cannot be asked now: %s", error)
            return True
        return key is not None and key.allows(Scope.MANAGE)

    return is_good


async def while_allowed(stream: AsyncGenerator[str], allowed: Callable[[], bool]) -> AsyncIterator[str]:
    """What `stream` gives until it ends, or until `allowed` denies it: asked again and again, in silence too."""
    look_at = time.monotonic() + LOOK_EVERY
    coming: asyncio.Task[str | None] | None = None
    try:
        while True:
            coming = coming or asyncio.create_task(_next(stream))
            done, _ = await asyncio.wait({coming}, timeout=max(0.0, look_at - time.monotonic()))
            if time.monotonic() >= look_at:
                if not await sync_to_async(allowed)():
                    yield ENDED
                    return
                look_at = time.monotonic() + LOOK_EVERY
            if done:
                piece, coming = coming.result(), None
                if piece is None:
                    return
                yield piece
    finally:
        if coming:
            coming.cancel()
            with suppress(asyncio.CancelledError):
                await coming
        await stream.aclose()


async def _next(stream: AsyncGenerator[str]) -> str | None:
    """The next piece; None at the end."""
    return await anext(stream, None)
