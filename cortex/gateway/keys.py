"""Who asks: keys are looked up once, remembered for seconds as fingerprints, and known ones outlast a lost database."""

import asyncio
import logging
import re
import time
from collections import OrderedDict
from collections.abc import Callable, Iterable
from concurrent.futures import Executor
from dataclasses import dataclass
from datetime import timedelta

from django.db import Error as DatabaseFault
from django.db.models import Q
from django.utils import timezone

from cortex.access.models import ApiKey, Scope, digest
from cortex.gateway.openai import Fault

logger = logging.getLogger("cortex.gateway")

LOOKS_RIGHT = re.compile(r"ctx_[0-9a-f]{1,8}_[\w-]{1,100}", re.ASCII)
FRESH = 2.0
TRUSTED = 4.5
PATIENCE = 2.0
REMEMBERED = 10_000
NOTED_EVERY = 30.0


@dataclass(frozen=True)
class Key:
    """What the gateway keeps of a key. `expires_at` is Unix time."""

    id: int
    prefix: str
    may_infer: bool
    expires_at: float | None


@dataclass
class _Answer:
    key: Key | None
    at: float


def find(secret: str) -> Key | None:
    """The live key of this secret. Raises django.db.Error."""
    found = ApiKey.objects.find(secret)
    if found is None:
        return None
    expires_at = found.expires_at.timestamp() if found.expires_at else None
    return Key(found.id, found.prefix, found.allows(Scope.INFER), expires_at)


def note_use(ids: Iterable[int]) -> None:
    """Write down that these keys were used, once in a while. Raises django.db.Error."""
    now = timezone.now()
    stale = Q(last_used_at=None) | Q(last_used_at__lt=now - timedelta(seconds=NOTED_EVERY))
    ApiKey.objects.filter(stale, id__in=sorted(ids)).update(last_used_at=now)


class Keyring:
    """Keys by fingerprint. A revoked key is refused within five seconds, by every process."""

    def __init__(
        self,
        find: Callable[[str], Key | None],
        note_use: Callable[[Iterable[int]], None],
        threads: Executor,
    ) -> None:
        self._find, self._note_use, self._threads = find, note_use, threads
        self._answers: OrderedDict[str, _Answer] = OrderedDict()
        self._asking: dict[str, asyncio.Task[_Answer | None]] = {}
        self._used: set[int] = set()
        self._away = False

    async def check(self, secret: str) -> Key:
        """The key of this secret, allowed to use models. Raises Fault."""
        if not secret:
            raise _refusal("There is no API key in the request. Send it as: Authorization: Bearer ctx_…")
        if not LOOKS_RIGHT.fullmatch(secret):
            raise _refusal("What was sent is not an API key of Cortex: those begin with ctx_.")
        answer = await self._answer(secret)
        key = answer.key
        if key is None or (key.expires_at and key.expires_at <= time.time()):
            raise _refusal("The API key is not known, or it was revoked or has expired. Issue a new one.")
        if not key.may_infer:
            message = f"The key ctx_{key.prefix}_… may not use models: it lacks the scope 'infer'. Use another key."
            raise Fault(403, "permission_denied", message)
        self._used.add(key.id)
        return key

    async def _answer(self, secret: str) -> _Answer:
        print = digest(secret)
        answer = self._answers.get(print)
        age = time.monotonic() - answer.at if answer else TRUSTED
        if answer and age < FRESH:
            return answer
        asking = self._ask(print, secret)
        if answer and (age < TRUSTED or self._away):
            return answer
        try:
            fresh = await asyncio.wait_for(asyncio.shield(asking), PATIENCE)
        except TimeoutError:
            self._away, fresh = True, None
        known = fresh or answer
        if known:
            return known
        message = "The API key cannot be checked now: the database does not answer. Try again in a while."
        raise Fault(503, "keys_unavailable", message, seconds=5)

    def _ask(self, print: str, secret: str) -> "asyncio.Task[_Answer | None]":
        """One look-up at a time for each key; None when the database is away."""
        if print not in self._asking:
            self._asking[print] = asyncio.create_task(self._look_up(print, secret))
        return self._asking[print]

    async def _look_up(self, print: str, secret: str) -> _Answer | None:
        asked_at = time.monotonic()
        try:
            key = await asyncio.get_running_loop().run_in_executor(self._threads, self._find, secret)
        except DatabaseFault as error:
            if not self._away:
                logger.warning("The database does not answer; only keys seen before are let in. %s", error)
            self._away = True
            return None
        finally:
            del self._asking[print]
        self._away = False
        answer = self._answers[print] = _Answer(key, asked_at)
        self._answers.move_to_end(print)
        if len(self._answers) > REMEMBERED:
            self._answers.popitem(last=False)
        return answer

    async def note(self) -> None:
        """Write down which keys were used since the last time."""
        used, self._used = self._used, set()
        if not used:
            return
        try:
            await asyncio.get_running_loop().run_in_executor(self._threads, self._note_use, used)
        except DatabaseFault as error:
            self._used |= used
            logger.warning("When keys were last used could not be written; it will be tried again. %s", error)


def _refusal(message: str) -> Fault:
    return Fault(401, "invalid_api_key", message, headers={"www-authenticate": 'Bearer realm="Cortex"'})
