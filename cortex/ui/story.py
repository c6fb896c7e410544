"""A model's story for its page: the steps of its present attempt, its earlier ones, how programs reach it."""

import json
from dataclasses import dataclass
from datetime import datetime, timedelta

from cortex.fleet.models import Attempt
from cortex.sizes import gib
from cortex.ui.rows import Row

FETCHING = 1
ICONS = {"done": "check-circle", "now": "loader", "failed": "alert", "ahead": "circle"}


@dataclass(frozen=True)
class Step:
    """A step of an attempt. `state` is done, now, failed or ahead; `took` until the next step."""

    title: str
    state: str
    at: datetime | None
    took: timedelta | None
    note: str = ""

    @property
    def icon(self) -> str:
        return ICONS[self.state]


def steps(attempt: Attempt) -> list[Step]:
    """Queued, fetched, created, loaded, ready: with times; what was skipped or is not told is left out."""
    told = ("Weights loaded", attempt.weights_loaded_at), ("Cache sized", attempt.cache_sized_at)
    marks: list[tuple[str, datetime | None]] = [
        ("Queued", attempt.queued_at),
        ("Fetching", attempt.fetching_at),
        ("Container created", attempt.created_at),
        ("Loading", attempt.started_at),
        *(mark for mark in told if mark[1]),
        ("Ready", attempt.ready_at),
    ]
    if attempt.ended_at:
        marks = [*(mark for mark in marks if mark[1]), ("Ended", attempt.ended_at)]
    latest = max(place for place, mark in enumerate(marks) if mark[1])
    marks = [mark for place, mark in enumerate(marks) if mark[1] or place > max(latest, FETCHING)]
    return [_step(attempt, marks, place) for place in range(len(marks))]


def _step(attempt: Attempt, marks: list[tuple[str, datetime | None]], place: int) -> Step:
    title, at = marks[place]
    later = next((mark[1] for mark in marks[place + 1 :] if mark[1]), None)
    took = later - at if at and later else None
    return Step(title, _state(attempt, title, at, later), at, took, note(attempt, title))


def _state(attempt: Attempt, title: str, at: datetime | None, later: datetime | None) -> str:
    if at is None:
        return "ahead"
    if title == "Ended":
        return "failed" if attempt.remedy or attempt.exit_code else "done"
    return "done" if later or title == "Ready" else "now"


def note(attempt: Attempt, title: str) -> str:
    """What more is known of a step."""
    match title:
        case "Fetching" if attempt.bytes_total and (attempt.created_at or attempt.started_at):
            return gib(attempt.bytes_total)
        case "Fetching" if attempt.bytes_total:
            return f"{gib(attempt.bytes_done)} of {gib(attempt.bytes_total)}"
        case "Loading" if attempt.bytes_to_load:
            return f"{gib(attempt.bytes_to_load)} of weights"
        case "Ready" if attempt.ready_at and attempt.first_token_at:
            return f"first answer {spanned(attempt.first_token_at - attempt.ready_at)} later"
        case "Ended":
            return attempt.reason
    return ""


def spanned(span: timedelta) -> str:
    """A span for eyes."""
    seconds = max(0.0, span.total_seconds())
    if seconds < 10:
        return f"{seconds:.1f}s"
    minutes, seconds = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}h {minutes}m" if hours else f"{minutes}m {seconds}s" if minutes else f"{seconds}s"


def present(row: Row) -> Attempt | None:
    """The attempt under way, or the latest one."""
    if row.attempt:
        return row.attempt
    return Attempt.objects.filter(replica__model=row.model).order_by("-queued_at").first()


def first_failures(row: Row) -> list[Attempt]:
    """What began the present row of failures of each replica that fails: the logs that tell most."""
    failing = [replica.id for replica in row.replicas if replica.failures]
    first = (
        Attempt.objects.filter(replica__in=failing, failure=1).order_by("replica_id", "-number").distinct("replica_id")
    )
    return list(first.select_related("replica")) if failing else []


def command(attempt: Attempt | None) -> list[str]:
    """What the container runs, word by word."""
    spec = attempt.spec if attempt else {}
    return [*(spec.get("entrypoint") or ()), *spec.get("argv", ())]


@dataclass(frozen=True)
class Snippet:
    """How a program asks the model, as it can be pasted."""

    id: str
    title: str
    text: str


def snippets(name: str, gateway: str) -> list[Snippet]:
    """For a shell and for OpenAI's own clients."""
    question = "Say hello in one sentence."
    body = json.dumps({"model": name, "messages": [{"role": "user", "content": question}]})
    curl = (
        f"curl {gateway}/v1/chat/completions \\\n"
        '  -H "Authorization: Bearer $CORTEX_KEY" \\\n'
        '  -H "Content-Type: application/json" \\\n'
        f"  -d '{body}'"
    )
    python = (
        "import os\nfrom openai import OpenAI\n\n"
        f'client = OpenAI(base_url="{gateway}/v1", api_key=os.environ["CORTEX_KEY"])\n'
        "answer = client.chat.completions.create(\n"
        f'    model="{name}",\n    messages=[{{"role": "user", "content": "{question}"}}],\n    stream=True,\n)\n'
        'for chunk in answer:\n    print(chunk.choices[0].delta.content or "", end="", flush=True)'
    )
    script = (
        'import OpenAI from "openai";\n\n'
        f'const client = new OpenAI({{ baseURL: "{gateway}/v1", apiKey: process.env.CORTEX_KEY }});\n'
        "const answer = await client.chat.completions.create({\n"
        f'  model: "{name}",\n  messages: [{{ role: "user", content: "{question}" }}],\n  stream: true,\n}});\n'
        'for await (const chunk of answer) process.stdout.write(chunk.choices[0]?.delta?.content ?? "");'
    )
    return [Snippet("curl", "curl", curl), Snippet("python", "Python", python), Snippet("js", "JavaScript", script)]
