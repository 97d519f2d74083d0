"""A contact sheet: one picture of what is gold and what is held, by reason, made from the thumbnails of the facts."""

from __future__ import annotations

import io
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from PIL import Image, ImageDraw, ImageFont

from refinery.facts import FactStore
from refinery.inputs import Steps
from refinery.states.head import read_head
from refinery.states.tree import StateTrees
from refinery.store import ObjectStore
from refinery.verdicts import GOLD, HELD

_TILE, _GAP, _HEADING = 132, 10, 34
_PAPER, _INK, _FAINT = (250, 249, 246), (32, 32, 30), (122, 120, 114)
_EDGE = {GOLD: (191, 144, 0), HELD: (150, 60, 50)}


@dataclass(frozen=True, slots=True)
class Tile:
    """One sample: its thumbnail, or None and the reason why it could not be decoded."""

    sample_id: str
    thumbnail: bytes | None
    reason: str


@dataclass(frozen=True, slots=True)
class Section:
    """One heading of the sheet with its tiles, of `total` samples."""

    title: str
    verdict: str
    tiles: Sequence[Tile]
    total: int


def draw_contact_sheet(
    store: ObjectStore, facts: FactStore, steps: Steps, path: Path, *, most: int = 24, columns: int = 12
) -> None:
    """Write a PNG with up to `most` samples per heading: gold first, then held by first reason, the commonest first.
    Samples that could not be decoded stand under one heading, each with its reason."""
    draw_sections(_sections(store, facts, steps, most), columns).save(path, optimize=True)


def _sections(store: ObjectStore, facts: FactStore, steps: Steps, most: int) -> list[Section]:
    head, _ = read_head(store)
    rows = StateTrees(store).rows(head.node).select(["sample_id", "verdict", "reasons", "width"]).to_pylist()
    groups: dict[tuple[str, str], list[tuple[str, str]]] = {}
    for row in rows:
        reason = row["reasons"][0] if row["reasons"] else ""
        title = "cannot be decoded" if reason and row["width"] is None else reason
        groups.setdefault((row["verdict"], title), []).append((row["sample_id"], reason))
    ordered = sorted(groups.items(), key=lambda g: (g[0][0] != GOLD, -len(g[1]), g[0]))
    shown = [sample_id for _, members in ordered for sample_id, _ in members[:most]]
    found = facts.read(steps.inspect, sample_ids=shown, columns=["sample_id", "thumbnail"]).to_pylist()
    thumbnails = {row["sample_id"]: row["thumbnail"] for row in found}
    return [
        Section(
            f"{verdict}: {title.replace('_', ' ')}" if title else verdict,
            verdict,
            [Tile(sample_id, thumbnails.get(sample_id), reason) for sample_id, reason in members[:most]],
            len(members),
        )
        for (verdict, title), members in ordered
    ]


def _lines(sections: Sequence[Section], columns: int) -> list[list[Section]]:
    """Sections in order, several on one line while they fit side by side (each at least two tiles wide)."""
    lines: list[list[Section]] = []
    room = 0
    for section in sections:
        width = max(2, min(columns, len(section.tiles)))
        if not lines or width > room:
            lines.append([])
            room = columns
        lines[-1].append(section)
        room -= width
    return lines


def draw_sections(sections: Sequence[Section], columns: int) -> Image.Image:
    """The sections in order, `columns` tiles side by side; short ones share a line."""
    step = _TILE + _GAP
    lines = _lines(sections, columns)
    heights = [_HEADING + max(-(-len(s.tiles) // columns) for s in line) * step for line in lines]
    sheet = Image.new("RGB", (columns * step + _GAP, sum(heights) + 2 * _GAP), _PAPER)
    pen, font, small = ImageDraw.Draw(sheet), ImageFont.load_default(17), ImageFont.load_default(11)
    top = _GAP
    for line, height in zip(lines, heights, strict=True):
        left = _GAP
        for section in line:
            edge = _EDGE.get(section.verdict, _INK)
            pen.text((left, top + 6), section.title, edge, font)
            pen.text(
                (left + pen.textlength(section.title, font) + 8, top + 11), str(section.total), _FAINT, small
            )
            for place, tile in enumerate(section.tiles):
                corner = (left + place % columns * step, top + _HEADING + place // columns * step)
                _tile(sheet, pen, small, corner, tile, edge)
            left += max(2, min(columns, len(section.tiles))) * step
        top += height
    return sheet


def _tile(
    sheet: Image.Image,
    pen: ImageDraw.ImageDraw,
    font: ImageFont.FreeTypeFont | ImageFont.ImageFont,
    corner: tuple[int, int],
    tile: Tile,
    edge: tuple[int, int, int],
) -> None:
    x, y = corner
    pen.rectangle((x, y, x + _TILE, y + _TILE), fill=(255, 255, 255), outline=edge)
    if tile.thumbnail is None:
        pen.text((x + _TILE // 2, y + _TILE // 2 - 8), tile.reason.replace("_", " "), _INK, font, anchor="mm")
    else:
        picture = Image.open(io.BytesIO(tile.thumbnail)).convert("RGB")
        picture.thumbnail((_TILE - 6, _TILE - 20))
        sheet.paste(picture, (x + (_TILE - picture.width) // 2, y + 3 + (_TILE - 20 - picture.height) // 2))
    pen.text((x + 5, y + _TILE - 15), tile.sample_id[:12], _FAINT, font)
