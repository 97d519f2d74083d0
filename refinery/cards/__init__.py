"""Dataset cards: what a snapshot is, what it was computed from, what is in it and what was left out and why.

A card is a pure function of its snapshot: the same snapshot gives the same Markdown bytes, whatever was ingested, flagged
or exported since.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from refinery.batches import Batches
from refinery.cards.figures import Figures, measure
from refinery.cards.text import PICTURES, markdown
from refinery.errors import ConfigError, InputError
from refinery.facts import FactStore
from refinery.snapshots import Snapshot
from refinery.store import ObjectStore

__all__ = ["Card", "Figures", "make_card"]


@dataclass(frozen=True, slots=True)
class Card:
    """The card of one snapshot. `figures` are its numbers."""

    figures: Figures
    _facts: FactStore

    def markdown(self, *, pictures: bool = False) -> str:
        """The card as Markdown; with `pictures` it shows those that `write` puts beside it."""
        return markdown(self.figures, pictures=pictures)

    def pictures(self) -> dict[str, bytes]:
        """The pictures of the card by file name, as PNG. ConfigError when matplotlib is not installed."""
        try:
            from refinery.cards.pictures import contact_sheet, distributions
        except ModuleNotFoundError as error:
            raise ConfigError(
                f"There is no module {error.name!r} to draw with: install image-refinery[cards]. The card's text needs none.",
                kind="no_drawing",
            ) from None

        drawn = (contact_sheet(self.figures, self._facts), distributions(self.figures))
        return dict(zip(PICTURES, drawn, strict=True))

    def write(self, folder: Path) -> list[Path]:
        """Write README.md and its pictures into a folder, which is made; what they are called. InputError when it cannot
        be written."""
        files = {"README.md": self.markdown(pictures=True).encode(), **self.pictures()}
        try:
            folder.mkdir(parents=True, exist_ok=True)
            for name, data in files.items():
                (folder / name).write_bytes(data)
        except OSError as error:
            raise InputError(
                f"The card cannot be written to {folder}: {error.strerror}. Name a folder that can be written.",
                kind="unwritable_card",
            ) from None
        return [folder / name for name in files]


def make_card(store: ObjectStore, batches: Batches, facts: FactStore, snapshot: Snapshot) -> Card:
    """The card of a snapshot. CorruptionError when its rows or its policy cannot be read."""
    return Card(measure(store, batches, snapshot), facts)
