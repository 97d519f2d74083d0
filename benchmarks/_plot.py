"""The bench's rates as bars: one panel for each piece of work, ours first."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from pathlib import Path

from benchmarks._table import Row

_OURS, _PEER, _LIMIT, _INK = "#2a6f97", "#b8c4cc", "#e9c46a", "#222222"


def draw(rows: Sequence[Row], path: Path) -> None:
    """Write `path` as SVG: rates of the work done on one thread, systems that were not available left out."""
    import matplotlib as mpl
    from matplotlib.figure import Figure

    mpl.rcParams |= {"svg.hashsalt": "refinery", "font.size": 8, "axes.titlesize": 9, "svg.fonttype": "none"}
    panels = [
        (work.removesuffix(", 1 thread"), [r for r in group if r.value is not None])
        for work, group in itertools.groupby(rows, lambda row: row.work)
        if work.endswith(", 1 thread")
    ]
    across = min(2, len(panels))
    down = -(-len(panels) // across)
    heights = [
        0.5 + 0.2 * max(len(found) for _, found in panels[line * across : (line + 1) * across])
        for line in range(down)
    ]
    figure = Figure(figsize=(6.5 * across, sum(heights)), layout="constrained")
    axes = figure.subplots(down, across, squeeze=False, height_ratios=heights)
    for axis, panel in itertools.zip_longest(axes.flat, panels):
        if panel is None:
            axis.set_axis_off()
            continue
        work, found = panel
        values = [row.value or 0 for row in found]
        colours = [
            _OURS if r.system.startswith("refinery") else _LIMIT if r.system.startswith("limit") else _PEER
            for r in found
        ]
        bars = axis.barh(range(len(found)), values, color=colours)
        axis.set_yticks(range(len(found)), [_label(row, found) for row in found])
        axis.bar_label(bars, [f" {value:,.0f}" for value in values], color=_INK)
        axis.set_title(f"{work} ({found[0].unit})" if found else work, loc="right", color=_INK)
        axis.invert_yaxis()
        axis.margins(x=0.15)
        axis.xaxis.set_visible(False)
        axis.spines[:].set_visible(False)
        axis.tick_params(length=0)
    figure.savefig(path, format="svg", metadata={"Date": None})


def _label(row: Row, panel: Sequence[Row]) -> str:
    """The system, its filter or else what tells it from another row of its name, and a mark where it aliases."""
    how = row.note.partition(" · ")[0] if " · " in row.note else ""
    if not how and [other.system for other in panel].count(row.system) > 1:
        how = row.note.rpartition(", ")[2]
    mark = " (aliases)" if row.note.endswith("aliases") else ""
    return f"{row.system}{f', {how}' if how else ''}{mark}"
