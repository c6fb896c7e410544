"""From forecasts to answers."""

from itertools import islice

from cortex import placement
from cortex.api import estimate_shapes as shapes
from cortex.calculator.memory import Need
from cortex.catalog.definition import Definition, Refusal
from cortex.catalog.forecast import CardForecast, Forecast
from cortex.catalog.models import Model
from cortex.catalog.stack import Stacked
from cortex.fleet.models import Measurement
from cortex.orchestration import forecasts, needs

HISTORY = 10


def answer(definition: Definition, found: Forecast) -> shapes.EstimateAnswer:
    """A forecast in the words of this door, with the history of what was measured."""
    return shapes.EstimateAnswer(
        verdict=found.verdict,
        reason=found.reason,
        remedy=found.remedy,
        goes_to=found.goes_to or None,
        in_the_way=list(found.in_the_way),
        cards=[_card(each) for each in found.cards],
        host=need(found.host) if found.host else None,
        host_memory=found.host_memory,
        disk=found.disk,
        yields=shapes.YieldsAnswer.model_validate(found.yields) if found.yields else None,
        longest_context=found.longest_context,
        most_users=found.most_users,
        changes=[shapes.ChangeAnswer.model_validate(fix) for fix in found.fixes],
        assumptions=list(found.assumptions),
        corrected_by=found.past.at if found.past else None,
        history=[_past(row) for row in islice(needs.history(definition), HISTORY)],
    )


def softly(definition: Definition, instead_of: Model | None) -> shapes.EstimateAnswer:
    """For a dry run: what cannot be estimated is said, and refuses nothing."""
    try:
        found = forecasts.of(definition, instead_of)
    except Refusal as refusal:
        found = Forecast("unknown", str(refusal), "Correct the definition.")
    return answer(definition, found)


def imagined(host: shapes.HostRequest) -> placement.Host:
    cards = [
        placement.Card(
            f"#{number}", card.name, card.total, card.total if card.free is None else min(card.free, card.total)
        )
        for number, card in enumerate(host.cards)
    ]
    return placement.Host("an imagined host", cards=cards, memory=host.memory)


def stacked(of: Stacked) -> shapes.StackAnswer:
    """A stack plan in the words of this door."""
    return shapes.StackAnswer(
        verdict="fits" if of.fits else "does_not_fit",
        shares=[
            shapes.ShareAnswer(
                name=each.share.name,
                gpus=[of.cards[card].uuid for card in each.share.cards],
                bytes=each.share.bytes,
                parts=list(each.share.parts),
                fraction=each.share.fraction,
                freed=each.share.freed,
                patch=each.patch,
            )
            for each in of.seated
        ],
        refused=list(of.plan.refused),
        cards=[
            shapes.LeftAnswer(gpu=card.uuid, name=card.name, total=card.total, left=left)
            for card, left in zip(of.cards, of.plan.left, strict=True)
        ],
        total=of.plan.total,
        freed=of.plan.freed,
        host=shapes.HostStackAnswer(
            total=of.host_total,
            memory=of.memory or None,
            parts=[shapes.BesideAnswer.model_validate(each) for each in of.beside],
        ),
        scenarios=[shapes.ScenarioAnswer.model_validate(each) for each in of.scenarios],
    )


def need(of: Need) -> shapes.NeedAnswer:
    terms = [shapes.TermAnswer.model_validate(term) for term in of.terms]
    return shapes.NeedAnswer(low=of.low, likely=of.likely, high=of.high, terms=terms)


def _card(of: CardForecast) -> shapes.CardEstimateAnswer:
    card = of.card
    return shapes.CardEstimateAnswer(
        gpu=card.uuid,
        name=card.name,
        total=card.total,
        free=card.free,
        held=dict(card.held),
        foreign=card.foreign,
        need=need(of.need) if of.need else None,
        claim=of.claim,
        chosen=of.chosen,
        verdict=of.verdict,
        reason=of.reason,
    )


def _past(row: Measurement) -> shapes.PastAnswer:
    return shapes.PastAnswer(
        at=row.at,
        model=row.model_name,
        image=row.image,
        card=row.card,
        gpus=row.gpus,
        estimated=row.estimated,
        measured=row.terms,
        tokens=row.tokens,
        devices=row.devices,
    )
