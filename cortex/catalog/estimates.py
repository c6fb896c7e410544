"""What a definition will take on cards as they are: the one estimate that placement and every door use."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import PurePosixPath

from pydantic import ValidationError

from cortex import placement
from cortex.calculator import memory
from cortex.calculator.calibration import Measured, believed, calibrated, coherent
from cortex.calculator.memory import Estimate
from cortex.calculator.shape import Shape
from cortex.calculator.unreadable import UnreadableModel
from cortex.catalog import shapes
from cortex.catalog.definition import Definition, Refusal, Source, as_problem
from engines import engine
from engines.contract import MODELS, Launch, ModelFiles
from engines.habits import Habits, MemoryHabits, ServeOptions

MOST_CARDS = 8
FALLBACK = 1.2
MOST_OVERHEAD = 2 << 30  # more than this beyond all terms is somebody else on the card, whoever NVML names

Read = Callable[[Definition], Shape]


class Unknown(Exception):
    """Nobody can say what it takes: `why`, and what to do next."""

    def __init__(self, why: str, remedy: str = "") -> None:
        super().__init__(f"{why} {remedy}".strip())
        self.why, self.remedy = why, remedy


@dataclass(frozen=True)
class Past:
    """What an earlier start of the same model with the same engine's image took on `gpus` cards called `card`.

    `estimated` is what had been foretold, per card and term, in bytes; `at` says when, for eyes.
    """

    card: str
    gpus: int
    measured: Measured
    estimated: Sequence[Mapping[str, int]]
    at: str = ""


@dataclass(frozen=True)
class Plan:
    """A definition on a number of cards. `past` is the earlier start that corrected it."""

    shape: Shape
    habits: MemoryHabits
    estimate: Estimate
    past: Past | None = None

    @property
    def options(self) -> Habits:
        return self.habits.options

    @property
    def assumptions(self) -> tuple[str, ...]:
        return (*self.estimate.assumptions, *self.habits.assumptions)

    @property
    def fraction(self) -> float:
        """The share of each card it fills; 0 for engines that take what they need."""
        fills = isinstance(self.options, ServeOptions) and not self.options.cache_bytes
        return self.options.fraction if fills and isinstance(self.options, ServeOptions) else 0.0


def read_shape(definition: Definition) -> Shape:
    """The shape of a definition's weights. Raises UnreadableModel."""
    return shapes.shape_of(definition.source)


def read_near(definition: Definition) -> Shape:
    """The shape of what is on this machine, without asking the hub. Raises UnreadableModel."""
    found = shapes.near(definition.source)
    if found is None:
        name = definition.source.repository
        raise UnreadableModel(name, "it is still on the hub.", "It is looked at when it has been fetched.")
    return found


def plan(definition: Definition, count: int, past: Iterable[Past] = (), read: Read = read_shape) -> Plan:
    """What it takes on `count` cards (0: the processor). Raises Unknown, Refusal."""
    kind = engine(definition.engine)
    shape = _shape(definition, read)
    try:
        habits = kind.memory(_launch(definition, shape, count))
    except ValidationError as error:
        problems = [as_problem(each, "/options") for each in error.errors()]
        raise Refusal(f"{kind.title} does not take these options.", problems) from error
    if habits is None:
        raise Unknown(f"Nobody has worked out yet how {kind.title} uses memory.")
    habits = replace(habits, options=_with_files(habits))
    found = estimated(shape, habits.options, count)
    earlier = next((each for each in past if each.gpus == count), None)
    if earlier and count:
        found = corrected(found, earlier, budgeted=isinstance(habits.options, ServeOptions))
    return Plan(shape, habits, found, earlier if count else None)


def _shape(definition: Definition, read: Read) -> Shape:
    try:
        return read(definition)
    except UnreadableModel as error:
        raise Unknown(f"{error.what}: {error.why}", error.remedy) from error


def estimated(shape: Shape, options: Habits, count: int) -> Estimate:
    """Terms per card and on the host; an engine that fills a budget takes it from the host where there is no card."""
    cards = [] if isinstance(options, ServeOptions) else [memory.Card(0)] * count
    found = memory.estimate(shape, options, cards)
    if count:
        return found
    terms = {term.name: term for need in found.gpus for term in need.terms}
    if isinstance(options, ServeOptions) and options.cache_bytes and "kv_cache" in terms:
        size = max(options.cache_bytes, terms["kv_cache"].likely)
        terms["kv_cache"] = memory.exact("kv_cache", size, "the room kept for the cache, all of it")
    host = memory.Need((*terms.values(), *found.host.terms))
    return replace(found, gpus=(), host=host, yields=None)


def _launch(definition: Definition, shape: Shape, count: int) -> Launch:
    return Launch(
        served_name=definition.name,
        files=ModelFiles(path=MODELS / definition.source.path, size=shape.file_bytes or shape.weight_bytes),
        host_models="",
        options=definition.options,
        context=definition.context,
        users=definition.users,
        gpus=tuple(f"GPU-{number}" for number in range(count)),
    )


def _with_files(habits: MemoryHabits) -> Habits:
    """The habits with the sizes of the further files they name, and what a draft model caches."""
    sizes: dict[str, object] = {habit: sum(map(_size, paths)) for habit, paths in habits.files.items()}
    if habits.draft:
        sizes["draft_widths"] = _widths(habits.draft)
    return replace(habits.options, **sizes) if sizes else habits.options  # type: ignore[arg-type]


def _widths(path: str) -> tuple[int, ...]:
    """Values that each layer of a draft model caches per token."""
    try:
        drafting = shapes.shape_of(Source(path=str(PurePosixPath(path).relative_to(MODELS))))
    except UnreadableModel as error:
        raise Unknown(f"The draft model {path} is loaded as well: {error}", "Correct its path.") from error
    return tuple(layer.cached_width for layer in drafting.trunk if layer.cached_width)


def _size(path: str) -> int:
    try:
        return shapes.size_of_file(str(PurePosixPath(path).relative_to(MODELS)))
    except (UnreadableModel, ValueError) as error:
        raise Unknown(f"{path} is loaded as well: {error}", f"Name a file below {MODELS}.") from error


def corrected(found: Estimate, past: Past, *, budgeted: bool) -> Estimate:
    """The estimate, each term scaled by what the earlier start took against what had been foretold for it."""
    then = past.estimated
    if len(then) != len(found.gpus) or not coherent(past.measured, per_card=budgeted):
        return found
    terms = {name: size for name, size in past.measured.terms.items() if size > 0}
    now = {name: _scaled(name, size, found, then) for name, size in terms.items()}
    likely = Measured({name: size for name, size in now.items() if size}, past.measured.tokens)
    seen = any(past.measured.devices)
    likely = replace(likely, terms=_credible(likely.terms, found, seen=seen))
    if budgeted or len(past.measured.devices) != len(then):
        return calibrated(found, likely) if likely.terms else found
    first = calibrated(found, likely) if likely.terms else found
    beyond = [
        used - sum(_known(name, size, terms, len(then)) for name, size in foretold.items() if name != "runtime")
        for used, foretold in zip(past.measured.devices, then, strict=True)
    ]
    if max(beyond) > MOST_OVERHEAD:
        return first
    devices = tuple(
        max(0, extra) + sum(term.likely for term in need.terms if term.name != "runtime")
        for extra, need in zip(beyond, first.gpus, strict=True)
    )
    return calibrated(found, replace(likely, devices=devices))


def _credible(terms: Mapping[str, int], found: Estimate, *, seen: bool) -> dict[str, int]:
    """Measured sizes that can be those of the terms they are named after."""
    expected = {term.name: term for need in found.gpus for term in need.terms}
    return {name: size for name, size in terms.items()
            if name in expected and believed(expected[name], size, seen=seen)}  # fmt: skip


def _known(name: str, foretold: int, measured: dict[str, int], cards: int) -> int:
    return measured.get(name, foretold) if cards == 1 else foretold


def _scaled(name: str, measured: int, found: Estimate, then: Sequence[Mapping[str, int]]) -> int:
    foretold = then[0].get(name, 0)
    now = next((term.likely for term in found.gpus[0].terms if term.name == name), 0)
    return int(measured * now / foretold) if foretold else 0


@dataclass(frozen=True)
class Asked:
    """What placement is asked for, and the plans behind it by their count of cards."""

    need: placement.Need
    plans: dict[int, Plan] = field(default_factory=dict)
    fallback: str = ""


def ask(definition: Definition, available: int, past: Iterable[Past] = (), read: Read = read_shape) -> Asked:
    """What it needs on any count of `available` cards that its definition allows. Raises Unknown, Refusal."""
    past = tuple(past)
    plans: dict[int, Plan] = {}
    refusal: Refusal | None = None
    for count in _counts(definition, available):
        try:
            plans[count] = plan(definition, count, past, read)
        except Refusal as error:
            refusal = error
    if not plans:
        raise refusal or Unknown("There is no card.", "Ask for 0 GPUs to run on the CPU.")
    return Asked(_need(definition, plans), plans)


def wishes(definition: Definition) -> placement.Need:
    """Where it may go, of a need that is not known yet."""
    wanted = definition.placement
    return placement.Need(
        bytes=0,
        gpus=definition.gpus,
        pinned=frozenset(wanted.cards),
        hosts=frozenset(wanted.hosts),
        labels=wanted.labels,
        spread=wanted.spread,
    )


def _counts(definition: Definition, available: int) -> list[int]:
    if definition.gpus is not None:
        return [definition.gpus]
    if definition.placement.cards:
        available = max(1, min(available, len(definition.placement.cards)))
    return [1 << n for n in range(MOST_CARDS.bit_length()) if 1 << n <= available] or [0]


def _need(definition: Definition, plans: dict[int, Plan]) -> placement.Need:
    shares = {count: tuple(need.likely for need in each.estimate.gpus) for count, each in plans.items() if count}
    any_plan = next(iter(plans.values()))
    on_host = plans[0].estimate.host.likely if 0 in plans else 0
    return replace(
        wishes(definition),
        bytes=on_host or max((sum(each) for each in shares.values()), default=0),
        divides=_divides(any_plan),
        shares=shares,
        fraction=any_plan.fraction,
        host_bytes=max((each.estimate.host.likely for count, each in plans.items() if count), default=0),
    )


def _divides(of: Plan) -> int | None:
    """Engines that split every layer need their heads to divide over the cards."""
    if isinstance(of.options, ServeOptions) and of.options.pipeline == 1:
        return of.shape.heads or None
    return None


def ask_blindly(definition: Definition, size: int, why: str) -> Asked:
    """What placement is asked for when nothing better is known than the weights."""
    return Asked(replace(wishes(definition), bytes=int(FALLBACK * size)), fallback=(
        f"Its need was not estimated, so {FALLBACK:g} times its weights are reserved. {why}"
    ))  # fmt: skip


def terms_of(each: Plan) -> list[dict[str, int]]:
    """Likely bytes by term, per card: what is kept with a start, to be compared with what it took."""
    return [{term.name: term.likely for term in need.terms} for need in each.estimate.gpus]
