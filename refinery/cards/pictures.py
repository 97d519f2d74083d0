"""The pictures of a dataset card: samples drawn at random by a fixed seed, and how sizes are distributed. No text of data."""

from __future__ import annotations

import io

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from refinery.cards.figures import Figures, most_common
from refinery.contact_sheet import Section, Tile, draw_sections
from refinery.facts import FactStore
from refinery.gates.members import recorded_step
from refinery.verdicts import GOLD

_COLOUR = "#bf9000"
_BINS = 32


def contact_sheet(figures: Figures, facts: FactStore) -> bytes:
    """Thumbnails of the samples that the figures chose, as the snapshot's own inspection made them. PNG."""
    step = recorded_step(figures.snapshot, "inspect")
    found = facts.read(step, sample_ids=figures.shown, columns=["sample_id", "thumbnail"]).to_pylist()
    thumbnails = {row["sample_id"]: row["thumbnail"] for row in found}
    tiles = [Tile(i, thumbnails.get(i) or None, "no thumbnail") for i in figures.shown]
    sink = io.BytesIO()
    title = f"{figures.snapshot.ref}: {len(tiles)} of"
    draw_sections([Section(title, GOLD, tiles, figures.snapshot.count)], columns=8).save(sink, "PNG")
    return sink.getvalue()


def distributions(figures: Figures) -> bytes:
    """Histograms of shorter side, aspect and bytes, and the formats. PNG."""
    figure = Figure(figsize=(11, 6), dpi=100, layout="constrained")
    FigureCanvasAgg(figure)
    side, aspect, size, formats = figure.subplots(2, 2).flatten()
    _histogram(side, np.asarray(figures.sides, float), "shorter side, pixels")
    _histogram(aspect, np.asarray(figures.aspects, float), "width / height")
    _histogram(size, np.asarray(figures.bytes, float), "bytes")
    names = most_common(figures.formats)
    formats.bar([name for name, _ in names], [n for _, n in names], color=_COLOUR)
    formats.set_title("format")
    sink = io.BytesIO()
    figure.savefig(sink, format="png", metadata={"Software": None})
    return sink.getvalue()


def _histogram(axes: Axes, values: np.ndarray[tuple[int, ...], np.dtype[np.float64]], title: str) -> None:
    """Counts on a logarithmic scale of values, which are all positive."""
    good = values[values > 0]
    axes.set_title(title)
    axes.set_ylabel("samples")
    if not len(good):
        return
    low, high = float(good.min()), float(good.max())
    edges = np.geomspace(low * 0.9, high * 1.1, _BINS + 1)
    axes.hist(good, bins=edges.tolist(), color=_COLOUR)
    axes.set_xscale("log")
