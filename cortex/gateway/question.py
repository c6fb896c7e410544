"""What a client asks, read once: for which model, streamed or not, and how it is put to the engine."""

import asyncio
from dataclasses import dataclass
from typing import Any

import orjson

from cortex.gateway.openai import Fault

LARGE = 1 << 20


@dataclass(frozen=True)
class Question:
    """A request's body and what it says. `usage_is_ours`: the client did not ask for a stream's usage, we do."""

    model: str
    raw: bytes
    said: dict[str, Any]
    stream: bool
    usage_is_ours: bool

    def put(self, served_name: str) -> bytes:
        """The body for the engine: the client's own bytes unless something must change."""
        if served_name == self.model and not self.usage_is_ours:
            return self.raw
        said = {**self.said, "model": served_name}
        if self.usage_is_ours:
            said["stream_options"] = {**(self.said.get("stream_options") or {}), "include_usage": True}
        return orjson.dumps(said)


async def read(raw: bytes, *, streamed: bool) -> Question:
    """Understand a body; `streamed` paths may answer in events. Raises Fault."""
    try:
        # Parsing megabytes of images would hold up every stream of this process.
        said = await asyncio.to_thread(orjson.loads, raw) if len(raw) > LARGE else orjson.loads(raw)
    except orjson.JSONDecodeError as error:
        raise Fault(400, "invalid_json", f"The request's body is not valid JSON: {error}.") from error
    if not isinstance(said, dict):
        raise Fault(400, "invalid_json", "The request's body must be a JSON object.")
    model = said.get("model")
    if not isinstance(model, str) or not model:
        raise Fault(400, "missing_model", "Name the model: the field 'model' is missing or not a text.", param="model")
    stream = streamed and said.get("stream") is True
    return Question(model, raw, said, stream, stream and _leaves_usage_out(said.get("stream_options")))


def _leaves_usage_out(options: Any) -> bool:
    return options is None or (isinstance(options, dict) and not options.get("include_usage"))
