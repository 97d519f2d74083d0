"""A dataset card as Markdown. Every text that comes from data is escaped; no clock is read."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from itertools import pairwise
from typing import Any

import numpy as np
import numpy.typing as npt
import yaml

from refinery.cards.figures import Attribute, Figures, most_common
from refinery.digests import canonical_json
from refinery.markdown import escape

PICTURES = ("contact-sheet.png", "distributions.png")
_MOST = 20
_LONGEST = 80
_SIDES = (256, 512, 768, 1024, 2048)
_ASPECTS = (0.5, 0.75, 1.0, 4 / 3, 2.0)
_ASPECT_NAMES = ("under 1:2", "1:2 to 3:4", "3:4 to 1:1", "1:1 to 4:3", "4:3 to 2:1", "2:1 and over")
_SIZES = (10_000, 100_000, 1_000_000, 10_000_000)
_SIZE_NAMES = ("under 10 kB", "10 kB to 100 kB", "100 kB to 1 MB", "1 MB to 10 MB", "10 MB and over")
_CATEGORIES = ((1_000, "n<1K"), (10_000, "1K<n<10K"), (100_000, "10K<n<100K"), (1_000_000, "100K<n<1M"))


def markdown(figures: Figures, *, pictures: bool) -> str:
    """The whole card; with `pictures` it links to PICTURES beside it."""
    parts = (
        _front(figures),
        _title(figures),
        _pictures() if pictures else (),
        _identity(figures),
        _splits(figures),
        _computed_from(figures),
        _left_out(figures),
        _pixels(figures),
        _origins(figures),
        _attributes(figures),
        _loading(figures),
    )
    return "\n".join(line for part in parts for line in part) + "\n"


def _front(figures: Figures) -> Iterator[str]:
    """The block that dataset hubs read."""
    category = next((name for most, name in _CATEGORIES if figures.snapshot.count < most), "n>1M")
    head = {
        "pretty_name": figures.snapshot.ref,
        "size_categories": [category],
        "tags": ["image", "refinery"],
    }
    yield "---"
    yield yaml.safe_dump(head, sort_keys=True).rstrip("\n")
    yield "---"


def _title(figures: Figures) -> Iterator[str]:
    snapshot = figures.snapshot
    yield f"# {snapshot.ref}"
    yield ""
    yield (
        f"{snapshot.count:,} samples, {_size(int(figures.bytes.sum()))}, frozen on {escape(snapshot.created_at[:10])} "
        f"out of {figures.seen:,} that were ever seen."
    )


def _pictures() -> Iterator[str]:
    yield ""
    yield f"![Samples at random]({PICTURES[0]})"
    yield ""
    yield f"![Shorter side, aspect, bytes and format]({PICTURES[1]})"


def _identity(figures: Figures) -> Iterator[str]:
    snapshot = figures.snapshot
    yield from _section("Which it is, and how to verify it")
    yield from (f"- root `{snapshot.root}`", f"- version before: {escape(snapshot.parent or 'none')}")
    yield ""
    yield "The root is the digest of the rows: who has it can tell whether a copy is this dataset, and whether a picture is in it."
    yield from _code(
        "sh",
        f"refinery snapshot verify {snapshot.ref}",
        f"refinery snapshot prove {snapshot.ref} SAMPLE --output proof.json",
        f"refinery snapshot check proof.json --root {snapshot.root}",
    )


def _splits(figures: Figures) -> Iterator[str]:
    snapshot = figures.snapshot
    if snapshot.splits is None:
        return
    yield from _section("Splits")
    counts = snapshot.splits["counts"]
    yield from _table(
        ["split", "share", "samples"],
        ((n, f"{share:g}", counts[n]) for n, share in snapshot.splits["shares"]),
    )
    yield ""
    yield (
        f"No near-duplicates are in two of them. Seed {snapshot.splits['seed']}; a sample's split follows from its "
        "near-duplicate cluster, the seed and the shares alone, so it stays when the set grows."
    )
    name = snapshot.splits["shares"][0][0]
    yield from _code(
        "sh", f"refinery export {snapshot.ref} --split {name} --format webdataset --size bucket --side 512"
    )


def _computed_from(figures: Figures) -> Iterator[str]:
    snapshot = figures.snapshot
    yield from _section("What it was computed from")
    yield f"- the ledger up to offset {snapshot.ledger_offset:,}"
    yield f"- the verdict state `{snapshot.state}` of {snapshot.state_count:,} samples"
    view = f", of view {escape(snapshot.view)}" if snapshot.view else ""
    yield f"- filter over gold: {escape(snapshot.filter) if snapshot.filter else 'none, all of gold'}{view}"
    yield f"- policy {escape(figures.policy_name)} `{snapshot.policy}`"
    yield ""
    yield from _table(["rule", "holds back when"], figures.rules)
    yield ""
    steps = (
        (name, raw.get("key"), raw.get("model_digest") or "none", canonical_json(raw.get("params")).decode())
        for name, raw in sorted(snapshot.steps.items())
    )
    yield from _table(["step", "step key", "digest of the model", "parameters"], steps)


def _left_out(figures: Figures) -> Iterator[str]:
    yield from _section("What was left out, and why")
    held = sum(figures.held.values())
    yield (
        f"{figures.seen:,} seen = {figures.gold:,} gold + {held:,} held + {figures.pending:,} pending; "
        f"{figures.gold:,} gold = {figures.snapshot.count:,} in this dataset + {figures.filtered:,} that its filter leaves out."
    )
    yield ""
    if held:
        rows = ((reason, n, figures.reasons[reason]) for reason, n in most_common(figures.held))
        yield from _table(["held because", "samples, by first reason", "samples with this reason"], rows)
        others = sorted(set(figures.reasons) - set(figures.held))
        if others:
            yield ""
            named = ", ".join(f"{escape(r)} ({figures.reasons[r]:,})" for r in others)
            yield f"Never the first reason: {named}."
        yield ""
    yield (
        f"{figures.near_duplicates:,} of the samples seen are near-duplicates of one that is kept instead of them."
    )


def _pixels(figures: Figures) -> Iterator[str]:
    yield from _section("Pixels and bytes")
    quantiles = [
        ("shorter side, pixels", *_quantiles(figures.sides)),
        ("width / height", *_quantiles(figures.aspects)),
        ("bytes", *_quantiles(figures.bytes)),
    ]
    yield from _table(["", "least", "5 %", "median", "95 %", "greatest"], quantiles)
    sides = [
        f"under {_SIDES[0]}",
        *(f"{a} to {b - 1}" for a, b in pairwise(_SIDES)),
        f"{_SIDES[-1]} and over",
    ]
    for title, values, edges, names in (
        ("shorter side, pixels", figures.sides, _SIDES, sides),
        ("width / height", figures.aspects, _ASPECTS, _ASPECT_NAMES),
        ("bytes", figures.bytes, _SIZES, _SIZE_NAMES),
    ):
        counts = np.bincount(np.searchsorted(edges, values, side="right"), minlength=len(names))
        yield ""
        yield from _table([title, "samples"], zip(names, counts.tolist(), strict=True))
    yield ""
    yield from _counts("format", figures.formats)


def _origins(figures: Figures) -> Iterator[str]:
    yield from _section("Sources and licences")
    yield from _counts("source", figures.sources)
    yield ""
    stated = Counter({k: n for k, n in figures.licences.items() if k})
    yield from _counts("licence", stated)
    yield ""
    yield f"{figures.licences['']:,} samples state no licence. A sample seen in two sources counts in both."


def _attributes(figures: Figures) -> Iterator[str]:
    yield from _section("Attributes and payloads")
    total = max(1, figures.snapshot.count)
    rows = (
        (a.name, a.type, a.filled, f"{a.filled / total:.1%}", _values(a))
        for a in sorted(figures.attributes, key=lambda a: a.name)
    )
    yield from _table(["attribute", "type", "samples", "share", "values"], rows)
    if figures.payloads:
        yield ""
        yield from _counts("payload", figures.payloads)


def _loading(figures: Figures) -> Iterator[str]:
    ref = figures.snapshot.ref
    yield from _section("How to load it")
    yield "Shards are a function of this snapshot and a recipe; the official readers read them."
    yield from _code(
        "sh",
        f"refinery export {ref} --format webdataset --size bucket --side 512",
        f"refinery export {ref} --format mds --size bucket --side 512",
        f"refinery export {ref} --format parquet --size bytes",
    )
    yield from _code(
        "python",
        "from glob import glob",
        "import webdataset",
        "",
        f'shards = sorted(glob("store/exports/{ref}/webdataset-*/*.tar"))',
        'samples = webdataset.WebDataset(shards, shardshuffle=False).decode("pil")',
    )


def _section(title: str) -> tuple[str, ...]:
    return ("", f"## {title}", "")


def _code(language: str, *lines: str) -> tuple[str, ...]:
    return ("", f"```{language}", *lines, "```")


def _counts(what: str, counts: Counter[str]) -> Iterator[str]:
    """A table of counts, the largest first; the rest in one row."""
    ordered = most_common(counts)
    rows: list[tuple[str, int]] = ordered[:_MOST]
    if rest := ordered[_MOST:]:
        rows.append((f"{len(rest):,} others", sum(n for _, n in rest)))
    yield from _table([what, "samples"], rows)


def _table(head: Sequence[str], rows: Iterable[Sequence[object]]) -> Iterator[str]:
    yield f"| {' | '.join(head)} |"
    yield f"| {' | '.join('---' for _ in head)} |"
    for row in rows:
        yield f"| {' | '.join(_cell(value) for value in row)} |"


def _cell(value: object) -> str:
    if isinstance(value, int):
        return f"{value:,}"
    return escape(_short(str(value)) if len(str(value)) > 4 * _LONGEST else value)


def _values(attribute: Attribute) -> str:
    if attribute.least is not None:
        return f"{_plain(attribute.least)} to {_plain(attribute.greatest)}"
    if attribute.distinct is None:
        return ""
    common = ", ".join(f"{_short(value)} ({n:,})" for value, n in attribute.common)
    return f"{attribute.distinct:,} different: {common}" if common else ""


def _short(text: str) -> str:
    return text if len(text) <= _LONGEST else f"{text[: _LONGEST - 1]}…"


def _plain(value: Any) -> str:
    return f"{value:.6g}" if isinstance(value, float) else str(value)


def _quantiles(values: npt.NDArray[Any]) -> list[str]:
    if not len(values):
        return ["none"] * 5
    found = np.quantile(values, [0, 0.05, 0.5, 0.95, 1], method="inverted_cdf")
    return [f"{v:,}" if isinstance(v, int) else f"{v:.4g}" for v in found.tolist()]


def _size(size: int) -> str:
    value = float(size)
    for unit in ("B", "kB", "MB", "GB"):
        if value < 1000:
            return f"{value:,.0f} {unit}" if unit == "B" else f"{value:,.1f} {unit}"
        value /= 1000
    return f"{value:,.1f} TB"
