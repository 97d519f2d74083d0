"""Samples as they are streamed straight from where their bytes lie: no shards, the order of the shards they would be."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy.typing as npt

from datago import _core
from datago.errors import ConfigError
from datago.exports import Fitted, Size
from datago.order import Planned
from datago.planning import ShardPlan, plan
from datago.recipe import Recipe
from datago.shards import Record


@dataclass(slots=True)
class Pictures:
    """Samples, each with its width and height as displayed, and `record`, which says where the bytes of one lie.

    They are planned into shards as `plan` would, so their order is that of an export of the same samples with the same
    recipe. `record` is called in the thread that iterates, once for each sample and epoch, shortly before the sample is
    read: credentials that expire may be given anew. `content` identifies the samples, for tokens; without it their ids do.
    `planned` gives the shards of a recipe where they are not those of `plan`.
    """

    sample_ids: Sequence[str]
    widths: npt.ArrayLike
    heights: npt.ArrayLike
    record: Callable[[str], Record]
    content: Any = None
    planned: Callable[[Recipe], list[ShardPlan]] | None = None
    _plans: list[tuple[str, ...]] = field(default_factory=list, init=False, repr=False)

    def fitted(self, recipe: Recipe | None, *, decode: bool) -> Fitted:
        """The shards that they would be as parts of an order, and the sizes of their pictures."""
        recipe = recipe or Recipe()
        if decode and recipe.size == "bytes":
            raise ConfigError(
                "recipe: untouched pictures have many sizes, which do not stack: use size='bucket' or 'fixed', or "
                "decode=False for their bytes"
            )
        end = f".{recipe.extension}"
        plans = (
            plan(self.sample_ids, self.widths, self.heights, recipe)
            if self.planned is None
            else self.planned(recipe)
        )
        plans.sort(key=lambda p: p.name.removesuffix(end))
        self._plans = [p.sample_ids for p in plans]
        sizes: list[Size | None] = [p.bucket if decode else None for p in plans]
        content = self.content or [list(p.sample_ids) for p in plans]
        return Fitted.of([(p.name.removesuffix(end), len(p.sample_ids)) for p in plans], sizes, content)

    def open(self, loader: _core.Loader, number: int, *, verify: bool, share: float) -> None:
        """There is nothing to open."""

    def submit(self, loader: _core.Loader, batch: Planned, size: Size | None) -> None:
        """Ask the loader for a batch."""
        rows = zip(batch.parts.tolist(), batch.rows.tolist(), strict=True)
        loader.submit_records(size, [self.record(self._plans[part][row]) for part, row in rows])
