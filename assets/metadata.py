"""What a materialization shows: numbers that Dagster draws over time, and small tables. Data is never markup."""

from __future__ import annotations

import base64
import io
import time
from collections.abc import Iterable, Mapping, Sequence

import dagster as dg
import pyarrow as pa

from refinery.markdown import escape
from refinery.project import Refinery

THUMBNAILS = 8
_SIDE = 96


class Clock:
    """Wall time since it was made, and rates over it."""

    def __init__(self) -> None:
        self._started = time.monotonic()

    @property
    def seconds(self) -> float:
        return round(time.monotonic() - self._started, 3)

    def rates(self, samples: int, nbytes: int) -> dict[str, float]:
        """Seconds, samples per second and megabytes (10^6 bytes) per second."""
        seconds = max(self.seconds, 1e-3)
        return {
            "seconds": seconds,
            "samples_per_second": round(samples / seconds, 2),
            "megabytes_per_second": round(nbytes / seconds / 1e6, 3),
        }


def table(head: Sequence[str], rows: Iterable[Sequence[object]]) -> dg.MarkdownMetadataValue:
    """A Markdown table; every cell is data and is escaped."""
    lines = [head, ["---"] * len(head)]
    body = "\n".join(f"| {' | '.join(cells)} |" for cells in lines)
    filled = "\n".join(f"| {' | '.join(escape(cell) for cell in row)} |" for row in rows)
    return dg.MetadataValue.md(f"{body}\n{filled}")


def counts(head: str, by_name: Mapping[str, int]) -> dg.MarkdownMetadataValue:
    """A table of counts by name, the most first; "none" when there is nothing to count."""
    if not by_name:
        return dg.MetadataValue.md("none")
    ordered = sorted(by_name.items(), key=lambda item: (-item[1], item[0]))
    return table([head, "samples"], ordered)


def thumbnails(project: Refinery, sample_ids: Sequence[str]) -> dg.MarkdownMetadataValue:
    """The thumbnails of the first few samples that decoded, and how their ids begin."""
    facts = project.facts.read(
        project.steps.inspect, sample_ids=sample_ids, columns=["sample_id", "reason", "thumbnail"]
    )
    good = facts.filter(facts["reason"].is_null()).slice(0, THUMBNAILS)
    return dg.MetadataValue.md(_pictures(good))


def _pictures(facts: pa.Table) -> str:
    ids, shown = facts["sample_id"].to_pylist(), facts["thumbnail"].to_pylist()
    cells = [
        f"![{i[:12]}](data:image/jpeg;base64,{_small(data)})" for i, data in zip(ids, shown, strict=True)
    ]
    if not cells:
        return "none"
    rows = [[f"`{i[:12]}`" for i in ids], ["---"] * len(ids), cells]
    return "\n".join(f"| {' | '.join(row)} |" for row in rows)


def _small(thumbnail: bytes) -> str:
    from PIL import Image

    with Image.open(io.BytesIO(thumbnail)) as picture:
        small = picture.convert("RGB")
    small.thumbnail((_SIDE, _SIDE))
    sink = io.BytesIO()
    small.save(sink, "JPEG", quality=70)
    return base64.b64encode(sink.getvalue()).decode()
