"""Small words of templates: icons, sizes, states, times."""

from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime, timedelta
from typing import NamedTuple

from django import template
from django.conf import settings
from django.templatetags.static import static
from django.urls import reverse
from django.utils.html import format_html, format_html_join
from django.utils.safestring import SafeString

from cortex import sizes
from cortex.ui import cards
from cortex.ui.story import spanned

register = template.Library()

FEW = 4
NOTHING = "\N{EN DASH}"
TERMS = {"kv_cache": "KV cache", "cuda_graphs": "CUDA graphs", "lora": "LoRA"}
ICONS = {
    "serving": "check-circle",
    "loading": "loader",
    "fetching": "download",
    "queued": "clock",
    "draining": "drain",
    "stopped": "stop-circle",
    "failing": "alert",
    "unknown": "question",
}


@register.simple_tag
def icon(name: str, label: str = "") -> SafeString:
    """A symbol of the sprite; told to screen readers only where it stands without a word."""
    sprite = static("icons.svg")
    if label:
        return format_html(
            '<svg class="icon" role="img" aria-label="{}"><use href="{}#{}"/></svg>', label, sprite, name
        )
    return format_html('<svg class="icon" aria-hidden="true"><use href="{}#{}"/></svg>', sprite, name)


@register.simple_tag
def state(phase: str) -> SafeString:
    """A state: its icon and its word, never colour alone."""
    return format_html('<span class="state" data-state="{}">{} {}</span>', phase, icon(ICONS[phase]), phase.title())


@register.simple_tag
def in_the_way(replicas: Iterable[str]) -> SafeString:
    """Replicas, as model/slot, each a link to its model's page."""
    names = [(name.rpartition("/")[0], name) for name in replicas]
    return format_html_join(", ", '<a href="{}">{}</a>', [(reverse("ui:model", args=[of]), name) for of, name in names])


@register.filter
def numbered(words: str, names: Mapping[str, str]) -> str:
    """A reason with its cards by number."""
    return cards.numbered(words, names)


@register.filter
def gib(size: int | None) -> str:
    """Bytes for eyes; a dash for what is not known."""
    return NOTHING if size is None else sizes.gib(size)


@register.filter
def more(size: int) -> str:
    """How many bytes a negative saving takes more."""
    return gib(-size)


@register.filter
def some(names: Sequence[str]) -> str:
    """The first few of many names."""
    rest = len(names) - FEW
    return f"{', '.join(names[:FEW])} and {rest} more" if rest > 1 else ", ".join(names)


@register.filter
def term(name: str) -> str:
    """A term of an estimate, as people write it."""
    return TERMS.get(name, name.replace("_", " ").capitalize())


@register.filter
def tokens(count: int | None) -> str:
    """A context's length, short where it is round."""
    if count is None:
        return "engine's"
    return f"{count // 1024}k" if count >= 1024 and count % 1024 == 0 else f"{count:,}"


@register.filter
def took(span: timedelta) -> str:
    """A span for eyes."""
    return spanned(span)


@register.filter
def yesno_word(text: str) -> str:
    """A boolean default as the form's other choices name it."""
    return {"true": "on", "false": "off"}.get(text, text)


@register.filter
def unlocal(number: float) -> str:
    """A number for SVG, whatever the language of the page."""
    return f"{number:g}"


@register.simple_tag
def ago(at: datetime | None, style: str = "ago") -> SafeString:
    """A time that keeps itself relative in the browser; absolute without it, and on hover."""
    if at is None:
        return SafeString(NOTHING)
    return format_html(
        '<time-ago hx-morph-skip-children data-style="{}" datetime="{}" title="{} UTC">{}</time-ago>',
        style,
        at.isoformat(),
        f"{at:%Y-%m-%d %H:%M:%S}",
        f"{at:%Y-%m-%d %H:%M}",
    )


class Surroundings(NamedTuple):
    """What every page knows of the installation."""

    pretend: bool
    gateway: str


@register.simple_tag
def surroundings() -> Surroundings:
    return Surroundings(pretend=settings.PRETEND, gateway=settings.ENV.cortex_gateway_url.rstrip("/"))
