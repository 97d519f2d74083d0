"""Planted gaps: kinds of pictures taken out of a set, whole or to 2 %, and how many of them are among the first proposals.

.venv/bin/python -m benchmarks.gaps [--quick] [--json FILE]

K kinds are taken out of a set that holds a share of the others; found is a kind that the middle of one of the first K proposals
is of. Beside it what most people do: k-means with as many cells as there are kinds (which it is told), ranked by how far each
falls short of its share. Made-up vectors are blurred clusters of unequal size and spread. Real ones are embeddings of
pieces of photographs (efficientnet_lite0), a kind for each photograph. `value` is the share found, `ratio` ours over theirs.
"""

from __future__ import annotations

import io
import time
import warnings
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from benchmarks._table import Row, options, report
from refinery.embedding_map.layout import Vectors, unit
from refinery.gaps.regions import under_covered

Ints = npt.NDArray[np.int64]
_GOAL = 0.9
_PIECE = 96


@dataclass(frozen=True)
class World:
    """`kinds` kinds, `planted` of them taken out but for the share `left`, of `share` of the others; n samples, d numbers each."""

    kinds: int
    samples: int
    dimension: int
    planted: int
    left: float
    share: float
    spread: float

    @property
    def name(self) -> str:
        gone = "whole" if not self.left else f"to {self.left:.0%}"
        return f"{self.planted} of {self.kinds} kinds {gone}, {self.samples:,} × {self.dimension}, set {self.share:.0%}"


WORLDS = (
    World(40, 4000, 64, 5, 0, 0.9, 0.4),
    World(40, 4000, 64, 5, 0.02, 0.9, 0.6),
    World(30, 3000, 1280, 3, 0.02, 0.95, 1.0),
    World(60, 6000, 32, 6, 0.02, 0.6, 0.5),
    World(60, 9000, 128, 12, 0.02, 0.3, 0.6),
    World(100, 10_000, 512, 10, 0.02, 0.5, 0.8),
    World(100, 10_000, 512, 20, 0, 0.3, 1.0),
)


def main() -> None:
    """Measure and print."""
    asked = options(__doc__)
    seeds = range(2 if asked.quick else 5)
    rows: list[Row] = []
    every: list[float] = []
    for world in WORLDS:
        drawn = [_made_up(world, seed) for seed in seeds]
        found, more = _measure(world.name, drawn, world.planted)
        every.append(found)
        rows += more
    vectors, kinds = _photographs(24 if asked.quick else 48)
    for planted, left in ((3, 0.0), (5, 0.02)):
        drawn = [_taken_out(vectors, kinds, planted, left, 0.8, np.random.default_rng(s)) for s in seeds]
        gone = "whole" if not left else f"to {left:.0%}"
        name = f"{planted} of {kinds.max() + 1} photographs {gone}, {len(kinds):,} pieces, set 80%"
        found, more = _measure(name, drawn, planted)
        every.append(found)
        rows += more
    mean = float(np.mean(every))
    rows.append(
        Row("planted gaps found, all of these", "goal", mean, "share", mean / _GOAL, 1, mean >= _GOAL)
    )
    report("planted gaps among the first proposals", rows, asked.json)


Drawn = tuple[Vectors, npt.NDArray[np.bool_], Ints, set[int]]


def _measure(name: str, drawn: list[Drawn], planted: int) -> tuple[float, list[Row]]:
    ours, theirs, seconds = [], [], []
    for vectors, inside, kinds, gone in drawn:
        started = time.perf_counter()
        regions = under_covered(vectors, inside, vectors[inside])[:planted]
        seconds.append(time.perf_counter() - started)
        ours.append(len(gone & {int(kinds[r.members[0]]) for r in regions}) / planted)
        middles = _by_cells(vectors, inside, int(kinds.max()) + 1)[:planted]
        theirs.append(len(gone & {int(kinds[i]) for i in middles}) / planted)
    found, other = float(np.mean(ours)), float(np.mean(theirs))
    note = f"{np.mean(seconds):.1f} s"
    return found, [
        Row(name, "refinery", found, "share", None, None, None, note),
        Row(name, "k-means cells", other, "share", found / other if other else None),
    ]


def _made_up(world: World, seed: int) -> Drawn:
    rng = np.random.default_rng(seed)
    weights = rng.lognormal(0, 0.6, world.kinds)
    sizes = np.maximum((weights / weights.sum() * world.samples).astype(int), 30)
    kinds = rng.permutation(np.repeat(np.arange(world.kinds), sizes))
    centres = rng.normal(size=(world.kinds, world.dimension))
    spread = world.spread * rng.uniform(0.6, 1.4, world.kinds)
    noise = spread[kinds][:, None] * rng.normal(size=(len(kinds), world.dimension))
    vectors = unit((centres[kinds] + noise).astype(np.float32))
    return _taken_out(vectors, kinds, world.planted, world.left, world.share, rng)


def _taken_out(
    vectors: Vectors, kinds: Ints, planted: int, left: float, share: float, rng: np.random.Generator
) -> Drawn:
    gone = rng.choice(int(kinds.max()) + 1, planted, replace=False)
    inside = rng.random(len(kinds)) < share
    for kind in gone:
        members = np.flatnonzero(kinds == kind)
        inside[members] = False
        if left:
            inside[rng.choice(members, max(1, round(left * len(members))), replace=False)] = True
    return vectors, inside, kinds, {int(kind) for kind in gone}


def _by_cells(vectors: Vectors, inside: npt.NDArray[np.bool_], cells: int) -> list[int]:
    """The middles of k-means cells, those first that hold the least of what they should, in standard deviations."""
    from sklearn.cluster import KMeans

    model = KMeans(cells, n_init=1, random_state=0).fit(vectors)
    share = inside.mean()
    found = []
    for cell in range(cells):
        members = np.flatnonzero(model.labels_ == cell)
        if len(members):
            short = len(members) * share - inside[members].sum()
            middle = members[(vectors[members] @ model.cluster_centers_[cell]).argmax()]
            found.append((short / np.sqrt(len(members) * share * (1 - share) + 1), int(middle)))
    return [middle for _, middle in sorted(found, reverse=True)]


def _photographs(pieces: int) -> tuple[Vectors, Ints]:
    """Embeddings of pieces of the corpus's photographs, and which photograph each is of."""
    import tempfile
    from pathlib import Path

    from PIL import Image

    import datago
    from refinery.config import EmbedderSettings
    from refinery.corpus import build_corpus
    from refinery.embedders import make_embedder

    rng = np.random.default_rng(0)
    embedder = make_embedder(EmbedderSettings(kind="efficientnet_lite0"), Path())
    found, kinds = [], []
    with tempfile.TemporaryDirectory(prefix="refinery-bench-") as folder, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        corpus = build_corpus(Path(folder), size="small")
        files = sorted((corpus.folder / "photographs").iterdir())
        pictures = [p for p in files if p.suffix in (".jpg", ".png") and ".mask" not in p.name]
        for kind, path in enumerate(pictures):
            picture = Image.open(path).convert("RGB")
            encoded = []
            for _ in range(pieces):
                x, y = (int(rng.integers(0, max(side - _PIECE, 1))) for side in picture.size)
                sink = io.BytesIO()
                picture.crop((x, y, x + _PIECE, y + _PIECE)).save(sink, "PNG")
                encoded.append(sink.getvalue())
            tensors = datago.inspect(
                encoded, tensor_side=embedder.input.side, tensor_fit=embedder.input.fit
            ).tensors
            assert tensors is not None
            found.append(embedder.embed_images(tensors))
            kinds += [kind] * pieces
    return unit(np.concatenate(found)), np.array(kinds)


if __name__ == "__main__":
    main()
