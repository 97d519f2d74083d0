"""The bench's rows as Markdown: a table for each role, sizes and cores side by side."""

from __future__ import annotations

from collections.abc import Sequence

from benchmarks._table import Row


def markdown(rows: Sequence[Row]) -> str:
    """Cells are rates, and in brackets how many times as fast ours is; what scales or is a goal alone has no part."""
    roles: dict[str, dict[tuple[str, str], dict[str, str]]] = {}
    for row in rows:
        role, *column = row.work.split(", ")
        if ": " in row.work or row.system.startswith("goal"):
            continue
        filter_, _, _ = row.note.partition(" · ")
        cells = roles.setdefault(role, {}).setdefault((row.system, "" if row.value is None else filter_), {})
        cells[", ".join(column)] = _cell(row)
        noted = cells.get("note", "")
        if row.note not in noted:
            cells["note"] = f"{noted}; {row.note.removeprefix(f'{filter_} · ')}" if noted else row.note
    return "\n".join(_table(role, systems) for role, systems in roles.items())


def _cell(row: Row) -> str:
    if row.value is None:
        return "not available"
    rate = f"{row.value:,.0f}"
    return f"**{rate}**" if row.ratio is None else f"{rate} ({row.ratio:.2g}×)"


def _table(role: str, systems: dict[tuple[str, str], dict[str, str]]) -> str:
    columns = list(dict.fromkeys(c for cells in systems.values() for c in cells if c != "note"))
    lines = [
        f"### {role}",
        "",
        "| system | " + " | ".join(columns) + " | |",
        "|---" * (len(columns) + 2) + "|",
    ]
    for (system, _), cells in systems.items():
        shown = " | ".join(cells.get(column, "") for column in columns)
        lines.append(f"| {system} | {shown} | {cells.get('note', '')} |")
    return "\n".join([*lines, ""])
