"""Where the time of an inspection, an export or a stream goes, and what holds it up."""

from __future__ import annotations

from dataclasses import dataclass, fields

_AT_ONCE = 0.8
"""The share of the time there is at which what only one thread does is what all others wait for."""


@dataclass(frozen=True, slots=True)
class Stages:
    """Seconds of all threads, by stage: they add up to at most `wall` times (threads + 1).

    `read` is bytes from a disk, or the wait for those of a network; `decode` bytes to pixels; `resize` cutting, resampling
    and turning; `encode` pixels to bytes; `measure` digests and figures; `write` laying out, hashing and writing shards, which one
    thread does for each shard; `blocked` is workers without anything to do because a shard's writer lags behind;
    `waited` is the caller of a stream, for batches.
    `wall` is the time that passed (of shards written beside each other: the sum of theirs).
    """

    read: float = 0.0
    decode: float = 0.0
    resize: float = 0.0
    encode: float = 0.0
    measure: float = 0.0
    write: float = 0.0
    blocked: float = 0.0
    waited: float = 0.0
    wall: float = 0.0

    def __add__(self, other: Stages) -> Stages:
        return Stages(*(getattr(self, f.name) + getattr(other, f.name) for f in fields(self)))

    @property
    def work(self) -> dict[str, float]:
        """Seconds by stage without waiting, longest first."""
        names = ("read", "decode", "resize", "encode", "measure", "write")
        return dict(sorted(((n, getattr(self, n)) for n in names), key=lambda item: -item[1]))

    @property
    def bottleneck(self) -> str | None:
        """The stage to make faster or give more threads: `write` once it fills the time there is, for one thread writes a
        shard; else the one that took most. None where nothing was done."""
        if self.wall and self.write >= _AT_ONCE * self.wall:
            return "write"
        name, seconds = next(iter(self.work.items()))
        return name if seconds else None

    def __str__(self) -> str:
        """One line for people: `decode 62 %, resize 21 %, …`, parts of the work above one per cent."""
        total = sum(self.work.values())
        parts = [(name, seconds / total) for name, seconds in self.work.items() if total and seconds]
        return ", ".join(f"{name} {share:.0%}" for name, share in parts if share >= 0.01).replace("%", " %")
