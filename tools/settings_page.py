"""Writes docs/settings.md from the settings themselves: python -m tools.settings_page."""

from pathlib import Path

from cortex.settings import BASE_DIR, Environment

PAGE = Path(__file__).parents[1] / "docs" / "settings.md"


def page() -> str:
    """The table of every variable, its default and its meaning."""
    rows = ["# Settings", "", "Environment variables; `cortex/settings.py` is their only reader.", ""]
    rows += ["| variable | default | meaning |", "|---|---|---|"]
    for name, field in Environment.model_fields.items():
        default = str(field.default if field.default is not None else "").replace(str(BASE_DIR), ".")
        rows.append(f"| `{name.upper()}` | {f'`{default}`' if default else ''} | {field.description} |")
    return "\n".join(rows) + "\n"


if __name__ == "__main__":
    PAGE.write_text(page())
