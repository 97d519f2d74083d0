"""Splits: train, validation and test parts of a set of samples, with no near-duplicates in two of them.

A sample's split is a function of the name of its near-duplicate cluster (of its own id when it has none), the seed and the
ratios, and of nothing else: not of the other samples, their order, or what was split before. So a set that grows keeps its
splits. A cluster's name is the smallest sample id in it: when samples of smaller ids join, or two clusters become one, all
of its members go where the smallest id belongs, and those that moved are worth knowing (`moved`).
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from itertools import accumulate

from blake3 import blake3

from refinery.errors import ConfigError

_TOLERANCE = 1e-9
_SPAN = 2**64
_NAME = re.compile(r"[a-z][a-z0-9_]{0,31}\Z")


class Splits:
    """Named parts in order, with the share of clusters that each is to get, and a seed.

    ConfigError when there are none, a name is none, a share is not above 0, or they do not sum to 1.
    """

    def __init__(self, ratios: Mapping[str, float], seed: int = 0) -> None:
        for name in ratios:
            if not _NAME.match(name):
                raise ConfigError(
                    f"{name!r} cannot name a split: lower-case letters, digits and _ only, at most 32.",
                    kind="bad_splits",
                )
        total = sum(ratios.values())
        if not ratios or min(ratios.values()) <= 0 or abs(total - 1) > _TOLERANCE:
            raise ConfigError(
                f"Splits are shares above 0 that sum to 1, such as train: 0.9, val: 0.05, test: 0.05; found {dict(ratios)}, "
                f"which sum to {total:g}.",
                kind="bad_splits",
            )
        if not 0 <= seed < _SPAN:
            raise ConfigError(
                f"The seed of splits lies between 0 and 2⁶⁴ − 1: found {seed}.", kind="bad_splits"
            )
        self.names = tuple(ratios)
        self.shares = dict(ratios)
        self.seed = seed
        self._ends = [round(end / total * _SPAN) for end in accumulate(ratios.values())]
        self._seed = seed.to_bytes(8, "little")

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Splits) and (self._ends, self.names, self._seed) == (
            other._ends,
            other.names,
            other._seed,
        )

    def __hash__(self) -> int:
        return hash((self.names, self._seed))

    @classmethod
    def parse(cls, text: str, seed: int = 0) -> Splits:
        """From words such as `train=0.9,val=0.05,test=0.05`. ConfigError when that is none."""
        pairs = [part.partition("=") for part in text.split(",")]
        try:
            shares = {name.strip(): float(share) for name, _, share in pairs}
        except ValueError:
            shares = {}
        if len(shares) != len(pairs):
            raise ConfigError(
                f"{text!r} says no splits: write NAME=SHARE,… with distinct names, such as train=0.9,val=0.05,test=0.05.",
                kind="bad_splits",
            )
        return cls(shares, seed)

    def of(self, name: str) -> str:
        """The split of a cluster or of a sample without one: the part in which BLAKE3(seed as 8 bytes little endian ‖ name)
        falls, its first 8 bytes read as a big-endian number of [0, 2⁶⁴)."""
        at = int.from_bytes(blake3(self._seed + name.encode()).digest(length=8), "big")
        return next(
            (split for split, end in zip(self.names, self._ends, strict=True) if at < end), self.names[-1]
        )

    def assign(self, sample_ids: Sequence[str], clusters: Mapping[str, str]) -> list[str]:
        """The split of each sample. `clusters` has the cluster of every sample that is in one."""
        return [self.of(clusters.get(i, i)) for i in sample_ids]

    def moved(
        self,
        sample_ids: Sequence[str],
        before: Mapping[str, str],
        after: Mapping[str, str],
        was: Splits | None = None,
    ) -> dict[str, tuple[str, str]]:
        """The samples that are in another split under the clusters of `after` than they were under those of `before`, with
        both; `was` are the splits of then, when they were not these."""
        olds, news = (was or self).assign(sample_ids, before), self.assign(sample_ids, after)
        return {i: (old, new) for i, old, new in zip(sample_ids, olds, news, strict=True) if old != new}
