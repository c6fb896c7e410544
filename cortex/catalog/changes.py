"""What could be changed of a definition so that it fits: merge patches, what costs least quality first."""

import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any

from cortex.calculator import answers, memory
from cortex.calculator.unreadable import UnreadableModel
from cortex.catalog import siblings
from cortex.catalog.definition import Definition, Source
from cortex.catalog.estimates import Plan, Read, Unknown, plan
from cortex.catalog.siblings import Others
from engines import all_engines, engine
from engines.contract import Engine
from engines.habits import Habits, LlamaOptions, ServeOptions

LEAST_SHARE = 0.05
PATIENCE = 4.0  # seconds after which no further sibling is read: people wait for the answer
MORE_CARDS, ELSEWHERE, PROCESSOR = 1.5, 5.5, 9.0
# bits per weight, and how much answers suffer below the next one up: from published perplexities of quantized models
QUALITY = ((7.9, 2.2), (6.4, 2.6), (5.4, 3.2), (4.4, 4.5), (3.3, 7.0), (0.0, 8.5))


@dataclass(frozen=True)
class Candidate:
    """A JSON merge patch of the definition and what it does, in words. More ``pain`` costs people more."""

    title: str
    patch: Mapping[str, Any]
    pain: float


def candidates(
    definition: Definition, plan: Plan, room: Sequence[memory.Card], read: Read, others: Others
) -> list[Candidate]:
    """Everything worth trying on cards of so much room, the emptiest first; none of it is known to fit yet."""
    found = [*_of_options(definition, plan, room), *_of_cards(definition, plan, room)]
    found += _of_files(definition, plan, room, read, others)
    return sorted(found, key=lambda candidate: candidate.pain)


def applied(definition: Definition, patch: Mapping[str, Any]) -> Definition:
    """The definition after a JSON merge patch. Raises ValueError when it makes no sense."""
    return Definition.model_validate(merged(definition.model_dump(exclude_none=True), patch))


def merged(target: Mapping[str, Any], patch: Mapping[str, Any]) -> dict[str, Any]:
    """RFC 7396: objects are merged, null takes away, anything else replaces."""
    result = dict(target)
    for name, value in patch.items():
        if value is None:
            result.pop(name, None)
        elif isinstance(value, Mapping):
            before = result.get(name)
            result[name] = merged(before if isinstance(before, Mapping) else {}, value)
        else:
            result[name] = value
    return result


def _of_options(definition: Definition, plan: Plan, room: Sequence[memory.Card]) -> Iterator[Candidate]:
    count = max(len(plan.estimate.gpus), 1) if room else 0
    if isinstance(plan.options, ServeOptions) and room:
        yield from _share(definition, plan, plan.options, room[0])
    used = room if isinstance(plan.options, ServeOptions) else room[:count]
    for change in answers.changes(plan.shape, plan.options, used):
        patch = _patch(definition, plan.options, change.options)
        if isinstance(plan.options, ServeOptions) and change.cards != count and room:
            patch["gpus"] = change.cards
        if patch:
            yield Candidate(change.title, patch, change.rank)


def _share(definition: Definition, plan: Plan, options: ServeOptions, card: memory.Card) -> Iterator[Candidate]:
    """The share of the emptiest card that serves what was asked for, from bytes instead of habit."""
    users, context = definition.users or 1, options.length(plan.shape)
    best = answers.best_fraction(plan.shape, options, card, context, users)
    if best and best != options.fraction:
        best = max(best, LEAST_SHARE)
        patch = {"options": engine(definition.engine).options_for({"fraction": best})}
        yield Candidate(f"Take {best:.0%} of the GPU: enough for {users} at {context:,} tokens", patch, 0)


def _patch(definition: Definition, before: Habits, after: Habits) -> dict[str, Any]:
    """The merge patch of the definition that turns the one set of habits into the other."""
    names = [each.name for each in fields(before)]
    changed = {name: getattr(after, name) for name in names if getattr(after, name) != getattr(before, name)}
    options = engine(definition.engine).options_for(changed)
    patch: dict[str, Any] = {"options": options} if options else {}
    if "context" in changed:
        shared = isinstance(after, ServeOptions) or after.unified
        patch["context"] = changed["context"] if shared else changed["context"] // getattr(after, "slots", 1)
    return patch


def _of_cards(definition: Definition, plan: Plan, room: Sequence[memory.Card]) -> Iterator[Candidate]:
    """More cards, or none."""
    count = max(len(plan.estimate.gpus), 1) if room else 0
    if not isinstance(plan.options, LlamaOptions):
        return
    if count and 2 * count <= len(room):
        yield Candidate(f"Split it over {2 * count} GPUs", {"gpus": 2 * count}, MORE_CARDS)
    if definition.gpus != 0 and room:
        yield Candidate("Run it on the processor", {"gpus": 0}, PROCESSOR)


def _of_files(
    definition: Definition, now: Plan, room: Sequence[memory.Card], read: Read, others: Others
) -> Iterator[Candidate]:
    """The same model in smaller files, for the same engine or for another."""
    own, until = siblings.bits(now.shape), time.monotonic() + PATIENCE
    for source in _smaller(definition, others):
        if time.monotonic() > until:
            return
        kind = _engine_for(definition, source)
        if kind is None:
            continue
        patch = _moved(definition, source, kind)
        try:
            there = plan(applied(definition, patch), len(now.estimate.gpus), read=read)
        except (Unknown, UnreadableModel, ValueError):
            continue
        wide = siblings.bits(there.shape)
        if not siblings.same_model(now.shape, there.shape) or (kind.name == definition.engine and wide >= own - 0.1):
            continue
        yield from _in_files(definition, there, source, kind, patch, room)


def _smaller(definition: Definition, others: Others) -> list[Source]:
    """So many siblings as are worth reading."""
    found = (source for source in others(definition.source) if source != definition.source)
    return [source for source, _ in zip(found, range(siblings.MOST_READ), strict=False)]


def _engine_for(definition: Definition, source: Source) -> Engine | None:
    """The engine that loads these files: the present one where it does."""
    form = "gguf" if (source.path or source.repository).lower().endswith("gguf") else "safetensors"
    present = engine(definition.engine)
    fitting = [kind for _, kind in sorted(all_engines().items()) if form in kind.formats]
    return present if form in present.formats else next(iter(fitting), None)


def _moved(definition: Definition, source: Source, kind: Engine) -> dict[str, Any]:
    """The patch that names other files; an engine's options mean nothing to another."""
    before, after = definition.source.model_dump(), source.model_dump()
    changed = {name: after[name] or None for name in after if after[name] != before[name]}
    if kind.name == definition.engine:
        return {"source": changed}
    options = dict.fromkeys(definition.options)
    return {"engine": kind.name, "source": changed, "image": None, **({"options": options} if options else {})}


def _in_files(
    definition: Definition,
    there: Plan,
    source: Source,
    kind: Engine,
    patch: dict[str, Any],
    room: Sequence[memory.Card],
) -> Iterator[Candidate]:
    wide = siblings.bits(there.shape)
    pain = next(cost for least, cost in QUALITY if wide >= least)
    name = f"{siblings.label(source)} ({wide:.1f} bits a weight)"
    if kind.name == definition.engine:
        yield Candidate(f"Take its {name}", patch, pain)
        return
    yield Candidate(f"Run its {name} under {kind.title}", patch, max(pain, ELSEWHERE))
    if isinstance(there.options, LlamaOptions) and there.estimate.gpus:
        cards = room[: len(there.estimate.gpus)]
        kept, layers = answers.most_layers(there.shape, there.options, cards)
        if 0 < kept < layers:
            options = {**patch.get("options", {}), **kind.options_for({"gpu_layers": kept})}
            title = f"Run its {name} under {kind.title}, {kept} of {layers} layers on the GPU"
            yield Candidate(title, {**patch, "options": options}, max(pain, ELSEWHERE) + 1)
