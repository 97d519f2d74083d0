"""The one table every bench prints, and the JSON rows it writes."""

from __future__ import annotations

import argparse
import json
import os
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import median

from rich.console import Console
from rich.table import Table


@dataclass(frozen=True, slots=True)
class Row:
    """One measurement. `ratio` is ours over that system's (higher is better for us); `goal` is the ratio aimed at; `note` says
    what the number needs to be read. A `value` of None: not available here, `note` says why."""

    work: str
    system: str
    value: float | None
    unit: str
    ratio: float | None = None
    goal: float | None = None
    met: bool | None = None
    note: str = ""


def options(
    description: str | None, more: Callable[[argparse.ArgumentParser], object] | None = None
) -> argparse.Namespace:
    """--quick (under 10 minutes), --json FILE, and what `more` adds."""
    parser = argparse.ArgumentParser(
        description=description, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--quick", action="store_true", help="a shorter run with fewer repeats")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the rows as JSON")
    if more:
        more(parser)
    return parser.parse_args()


def rate(work: Callable[[], int], repeats: int) -> float:
    """The median of items per second over `repeats` runs after one that is not counted; `work` returns its items."""
    work()
    rates = []
    for _ in range(repeats):
        start = time.perf_counter()
        count = work()
        rates.append(count / (time.perf_counter() - start))
    return median(rates)


def compare(
    work: str, unit: str, ours: tuple[str, float], others: Sequence[tuple[str, float, float | None]]
) -> list[Row]:
    """Rows of one piece of work: ours, then each other system as (name, value, goal of ours over it)."""
    rows = [Row(work, ours[0], ours[1], unit)]
    for name, value, goal in others:
        ratio = ours[1] / value
        rows.append(Row(work, name, value, unit, ratio, goal, None if goal is None else ratio >= goal))
    return rows


def report(title: str, rows: Sequence[Row], json_file: Path | None) -> None:
    """Print the table; write the rows when asked to."""
    noted = any(row.note for row in rows)
    table = Table(
        "work",
        "system",
        "value",
        "unit",
        "ours ÷ it",
        "goal",
        "met",
        *(["note"] if noted else []),
        title=f"{title} ({os.cpu_count()} cores)",
    )
    for row in rows:
        met = "" if row.met is None else "yes" if row.met else "no"
        ratio = "" if row.ratio is None else f"{row.ratio:.2f}"
        table.add_row(
            row.work,
            row.system,
            _shown(row.value),
            row.unit,
            ratio,
            "" if row.goal is None else f"{row.goal:.3g}",
            met,
            *([row.note] if noted else []),
        )
    console = Console()
    Console(width=max(console.width, 180 if noted else 120)).print(table)
    if json_file:
        json_file.write_text(json.dumps([asdict(row) for row in rows], indent=1), encoding="utf-8")


def _shown(value: float | None) -> str:
    if value is None:
        return "not available"
    return f"{value:,.1f}" if value >= 10 else f"{value:.3g}"
