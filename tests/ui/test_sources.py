"""What templates and modules may not hold: inline code, htmx 2's spellings, files that nobody listed."""

import re
from pathlib import Path

import pytest
from django.test import Client

from cortex.access.models import Person
from tools import vendor

ROOT = Path(__file__).parent.parent.parent
TEMPLATES = sorted((ROOT / "templates").rglob("*.html"))
MODULES = sorted((ROOT / "static" / "js").rglob("*.js"))
INLINE = [r"\sstyle\s*=", r"<style", r"\son\w+\s*=", r"<script(?![^>]*\ssrc=)", r"javascript:"]
HTMX_2 = [
    r"hx-ext\b", r"hx-vars\b", r"hx-disabled-elt", r"\bsse-(connect|swap)", r"hx-params", r"hx-disinherit",
    r"htmx:(after|before|config|load|oob|response|send|swap|xhr)[A-Z]\w*", r"hx-headers=", r"hx-on", r"js:",
]  # fmt: skip


def faults(text: str, rules: list[str]) -> list[str]:
    return [rule for rule in rules if re.search(rule, text)]


@pytest.mark.parametrize("path", TEMPLATES, ids=lambda path: str(path.relative_to(ROOT)))
def test_a_template_needs_no_exception_from_the_content_policy(path: Path) -> None:
    assert not faults(path.read_text(), INLINE)


@pytest.mark.parametrize("path", [*TEMPLATES, *MODULES], ids=lambda path: str(path.relative_to(ROOT)))
def test_nothing_is_spelt_as_in_htmx_2(path: Path) -> None:
    assert not faults(path.read_text(), HTMX_2)


@pytest.mark.parametrize("planted", ['<p style="x">', "<script>x</script>", '<a onclick="x">', 'href="javascript:x"'])
def test_planted_inline_code_is_found(planted: str) -> None:
    assert faults(planted, INLINE)


@pytest.mark.parametrize("planted", ['hx-ext="sse"', "htmx:afterSwap", 'hx-on:click="x"', "hx-headers='{}'"])
def test_a_planted_spelling_of_htmx_2_is_found(planted: str) -> None:
    assert faults(planted, HTMX_2)


def test_vendored_files_are_as_listed() -> None:
    assert not list(vendor.problems(vendor.listed()))


def test_a_touched_vendored_file_is_found(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    package = vendor.Package("a", "1", "sha512-x", {"dist/a.js": vendor.sha256(b"right")})
    monkeypatch.setattr(vendor, "ROOT", tmp_path)
    monkeypatch.setattr(vendor, "FOLDER", tmp_path)
    assert "is missing" in next(vendor.problems([package]))
    package.place("dist/a.js").parent.mkdir()
    package.place("dist/a.js").write_bytes(b"wrong")
    (tmp_path / "stray.js").touch()
    told = " ".join(vendor.problems([package]))
    assert "is not what vendor.toml lists" in told
    assert "stray.js is in no list" in told


def test_every_symbol_that_is_used_is_drawn() -> None:
    drawn = set(re.findall(r'<symbol id="([\w-]+)"', (ROOT / "static" / "icons.svg").read_text()))
    used = {name for path in TEMPLATES for name in re.findall(r'{% icon "([\w-]+)"', path.read_text())}
    assert used <= drawn


def test_every_page_comes_with_the_strict_policy(client: Client, alice: Person) -> None:
    policy = client.get("/login")["Content-Security-Policy"]
    assert "script-src 'self'" in policy
    assert "unsafe" not in policy
