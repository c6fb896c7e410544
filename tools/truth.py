"""Predicted against measured: python -m tools.truth FILE [--json]. FILE is a list of rows, or one row a line."""

import json
import statistics
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from cortex.calculator.gguf.header import read_set
from cortex.calculator.gguf.shape import shape_of
from cortex.calculator.llamacpp.plan import DevicePlan, LlamaPlan, options_from, plan
from cortex.calculator.shape import Shape
from cortex.calculator.unreadable import UnreadableModel
from tools.truth_facts import Row
from tools.truth_rows import Answer, Missing, Prediction, answers

MIB = 1 << 20
PARTS = ("model", "context", "compute")


class NoRows(Exception):
    """The file cannot be judged: why, in words."""


def read_rows(path: Path) -> list[Mapping[str, object]]:
    """Rows of a JSON list, or of one JSON object per line. Raises NoRows."""
    try:
        text = path.read_text()
    except (OSError, UnicodeDecodeError) as error:
        raise NoRows(f"{path} cannot be read: {error}") from error
    whole = text.lstrip().startswith("[")
    rows = _parsed(path, text) if whole else [_parsed(path, *each) for each in _lines(text)]
    odd = next((number for number, row in enumerate(rows, 1) if not isinstance(row, dict)), None)
    if odd or not rows:
        what = f"row {odd} is no JSON object" if odd else "it holds no rows"
        raise NoRows(f"{path}: {what}. Give a JSON list of rows, or one row a line.")
    return rows


def _lines(text: str) -> Iterator[tuple[str, int]]:
    return ((line, number) for number, line in enumerate(text.splitlines(), 1) if line.strip())


def _parsed(path: Path, text: str, line: int = 1) -> Any:
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as error:
        at = line + error.lineno - 1 if isinstance(error, json.JSONDecodeError) else line
        raise NoRows(f"{path}, line {at}: no JSON ({getattr(error, 'msg', error)}). "
                     "Give a JSON list of rows, or one row a line.") from error  # fmt: skip


class Judge:
    """Predicts rows of both formats; shapes of GGUF files are read once, ``known`` ones not at all."""

    def __init__(self, folder: Path, known: Mapping[str, Shape] | None = None) -> None:
        self.folder = folder
        self.shapes: dict[str, Shape] = dict(known or {})

    def answers(self, row: Mapping[str, object]) -> list[Answer]:
        if "gguf" not in row:
            return answers(Row(row))
        try:
            return self._planned(row)
        except (UnreadableModel, ValueError, TypeError, KeyError) as error:
            return [Missing("all", f"a row that can be planned ({error})")]

    def _planned(self, row: Mapping[str, object]) -> list[Answer]:
        name, arguments, devices = str(row["gguf"]), row["args"], row["devices"]
        if not isinstance(arguments, list) or not isinstance(devices, list):
            raise TypeError("args and devices must be lists")
        options = replace(options_from([str(each) for each in arguments]), pinned=False)
        planned = plan(self._shape(name), options, len(devices))
        return [answer for measured, each in _pairs(row, devices, planned) for answer in _parts(measured, each)]

    def _shape(self, name: str) -> Shape:
        if name not in self.shapes:
            path = Path(name)
            near = self.folder / name
            self.shapes[name] = shape_of(read_set(near if not path.is_absolute() and near.exists() else path))
        return self.shapes[name]


def _pairs(
    row: Mapping[str, object], devices: Sequence[object], planned: LlamaPlan
) -> list[tuple[tuple[str, object], DevicePlan]]:
    pairs: list[tuple[tuple[str, object], DevicePlan]] = [
        (("", device), each) for device, each in zip(devices, planned.devices, strict=True)
    ]
    return [*pairs, (("host ", row.get("host")), planned.host)]


def _parts(measured: tuple[str, object], planned: DevicePlan) -> list[Answer]:
    where, values = measured
    if not isinstance(values, dict):
        return []
    return [
        Prediction(where + part, _as_printed(getattr(planned, part), values[part]), float(values[part]))
        for part in PARTS
        if part in values
    ]


def _as_printed(size: int, measured: object) -> float:
    """MiB, cut to whole ones where the row has llama.cpp's own rounding."""
    return float(size // MIB) if isinstance(measured, int) else size / MIB


def row_name(row: Mapping[str, object]) -> str:
    if "gguf" not in row:
        return str(row.get("id", "?"))
    arguments = row.get("args")
    return f"{row['gguf']} {' '.join(map(str, arguments)) if isinstance(arguments, list) else ''}"


def summary(judged: Sequence[tuple[str, Sequence[Answer]]]) -> dict[str, object]:
    """Median and worst error per quantity, and the share of rows with at least one prediction."""
    by_quantity: dict[str, list[float]] = {}
    for _, given in judged:
        for answer in given:
            if isinstance(answer, Prediction):
                by_quantity.setdefault(answer.quantity, []).append(answer.error)
    covered = sum(any(isinstance(answer, Prediction) for answer in given) for _, given in judged)
    return {
        "rows": len(judged),
        "covered": covered / len(judged) if judged else 0.0,
        "quantities": {
            name: {
                "count": len(errors),
                "median": statistics.median(abs(error) for error in errors),
                "worst": max(errors, key=abs),
                "most_under": min(errors),
            }
            for name, errors in sorted(by_quantity.items())
        },
    }


def as_json(judged: Sequence[tuple[str, Sequence[Answer]]]) -> str:
    rows = [
        {
            "row": name,
            "predictions": [asdict(each) | {"error": each.error} for each in given if isinstance(each, Prediction)],
            "missing": [asdict(each) for each in given if isinstance(each, Missing)],
        }
        for name, given in judged
    ]
    return json.dumps({"rows": rows, "summary": summary(judged)}, indent=1)


def as_text(judged: Sequence[tuple[str, Sequence[Answer]]]) -> str:
    lines = []
    for name, given in judged:
        for answer in given:
            if isinstance(answer, Missing):
                lines.append(f"{name:<12} {answer.quantity:<16} not predicted: missing {answer.fact}")
                continue
            lines.append(
                f"{name:<12} {answer.quantity:<16} predicted {answer.predicted:>14,.2f}  "
                f"measured {answer.measured:>14,.2f}  {100 * answer.error:+.2f} %"
            )
    total = summary(judged)
    lines.append("")
    quantities = total["quantities"]
    if isinstance(quantities, dict):
        for name, figures in quantities.items():
            lines.append(
                f"{name:<16} {figures['count']:>5}  median {100 * figures['median']:.2f} %  "
                f"worst {100 * figures['worst']:+.2f} %  most under {100 * figures['most_under']:+.2f} %"
            )
    lines.append(f"rows {total['rows']}, covered {100 * float(str(total['covered'])):.1f} %")
    return "\n".join(lines)


def main(arguments: Sequence[str]) -> int:
    paths = [Path(each) for each in arguments if each != "--json"]
    if len(paths) != 1:
        print("usage: python -m tools.truth FILE [--json]", file=sys.stderr)
        return 2
    judge = Judge(paths[0].parent)
    try:
        rows = read_rows(paths[0])
    except NoRows as error:
        print(error, file=sys.stderr)
        return 2
    judged = [(row_name(row), judge.answers(row)) for row in rows]
    print(as_json(judged) if "--json" in arguments else as_text(judged))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
