"""A contact sheet: one picture of what is gold and what is held, by reason, made from the thumbnails of the facts."""

from __future__ import annotations

import io
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from PIL import Image, ImageDraw, ImageFont

from refinery.documents import Steps
from refinery.facts import FactStore
from refinery.states.head import read_head
from refinery.states.tree import StateTrees
from refinery.store import ObjectStore
from refinery.verdicts import GOLD, HELD

_TILE, _GAP, _HEADING = 132, 10, 34
_PAPER, _INK, _FAINT = (250, 249, 246), (32, 32, 30), (122, 120, 114)
_EDGE = {GOLD: (191, 144, 0), HELD: (150, 60, 50)}


@dataclass(frozen=True, slots=True)
class Section:
    """One heading of the sheet with its samples: (sample id, thumbnail bytes or None when it could not be decoded)."""

    title: str
    verdict: str
    tiles: Sequence[tuple[str, bytes | None]]
    total: int


def draw_contact_sheet(store: ObjectStore, facts: FactStore, steps: Steps, path: Path, *, most: int = 22, columns: int = 11) -> None:
    """Write a PNG with up to `most` samples per heading: gold first, then held by first reason, the commonest first."""
    _draw(_sections(store, facts, steps, most), columns).save(path, optimize=True)


def _sections(store: ObjectStore, facts: FactStore, steps: Steps, most: int) -> list[Section]:
    head, _ = read_head(store)
    groups: dict[tuple[str, str], list[str]] = {}
    for row in StateTrees(store).rows(head.node).select(["sample_id", "verdict", "reasons"]).to_pylist():
        groups.setdefault((row["verdict"], row["reasons"][0] if row["reasons"] else ""), []).append(row["sample_id"])
    ordered = sorted(groups.items(), key=lambda g: (g[0][0] != GOLD, -len(g[1]), g[0]))
    shown = [i for _, ids in ordered for i in ids[:most]]
    rows = facts.read(steps.inspect, sample_ids=shown, columns=["sample_id", "thumbnail"]).to_pylist()
    thumbnails = {row["sample_id"]: row["thumbnail"] for row in rows}
    return [
        Section(
            f"{verdict}: {reason.replace('_', ' ')}" if reason else verdict,
            verdict,
            [(i, thumbnails.get(i)) for i in ids[:most]],
            len(ids),
        )
        for (verdict, reason), ids in ordered
    ]


def _draw(sections: Sequence[Section], columns: int) -> Image.Image:
    step = _TILE + _GAP
    heights = [_HEADING + -(-len(s.tiles) // columns) * step for s in sections]
    sheet = Image.new("RGB", (columns * step + _GAP, sum(heights) + 2 * _GAP), _PAPER)
    pen, font, small = ImageDraw.Draw(sheet), ImageFont.load_default(18), ImageFont.load_default(11)
    top = _GAP
    for section, height in zip(sections, heights, strict=True):
        pen.text((_GAP, top + 6), section.title, _EDGE.get(section.verdict, _INK), font)
        more = f"{section.total} samples" + (f", {len(section.tiles)} shown" if section.total > len(section.tiles) else "")
        pen.text((_GAP + pen.textlength(section.title, font) + 12, top + 12), more, _FAINT, small)
        for place, (sample_id, thumbnail) in enumerate(section.tiles):
            x, y = _GAP + place % columns * step, top + _HEADING + place // columns * step
            _tile(sheet, pen, small, (x, y), sample_id, thumbnail, _EDGE.get(section.verdict, _INK))
        top += height
    return sheet


def _tile(
    sheet: Image.Image,
    pen: ImageDraw.ImageDraw,
    font: ImageFont.FreeTypeFont | ImageFont.ImageFont,
    corner: tuple[int, int],
    sample_id: str,
    thumbnail: bytes | None,
    edge: tuple[int, int, int],
) -> None:
    x, y = corner
    pen.rectangle((x, y, x + _TILE, y + _TILE), fill=(255, 255, 255), outline=edge)
    if thumbnail is None:
        pen.line((x, y, x + _TILE, y + _TILE), fill=(222, 214, 208))
        pen.line((x, y + _TILE, x + _TILE, y), fill=(222, 214, 208))
    else:
        picture = Image.open(io.BytesIO(thumbnail)).convert("RGB")
        picture.thumbnail((_TILE - 6, _TILE - 20))
        sheet.paste(picture, (x + (_TILE - picture.width) // 2, y + 3 + (_TILE - 20 - picture.height) // 2))
    pen.text((x + 5, y + _TILE - 15), sample_id[:12], _FAINT, font)
