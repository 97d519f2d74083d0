"""A whole embedded project of any number of samples, for what has to be quick whatever a project holds.

Pictures, thumbnails and figures are real ones, of a few hundred pictures that many samples share; ids, captions, places,
vectors and near-duplicates are drawn with a seed. Batches, facts and clusters are written straight in the formats of
docs/formats.md; verdicts, snapshots and the index come from the project itself. Only the pictures of the pool are kept
as bytes: the other samples say of theirs that they are not.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from benchmarks import _samples
from benchmarks._photographs import photographs
from refinery.batches import BatchReport, landed_key, manifest_bytes, manifest_key
from refinery.blobs import put_bytes
from refinery.corpus import build_corpus
from refinery.digests import canonical_json, digest
from refinery.embedding_map import EmbeddingMap
from refinery.facts import facts_table
from refinery.fields import Field, FieldType
from refinery.ledger import Actor, ActorKind, flag_event, tag_event
from refinery.near_duplicates.state import CLUSTERS, State
from refinery.project import Refinery
from refinery.steps.inspect import inspect_chunk
from refinery.steps.samples import Sample

BATCH = 2000
"""Samples of a batch: what `refinery.yaml` says when it says nothing."""
ANA = Actor(ActorKind.PERSON, "ana")
SOURCES = ("web", "crawl", "studio", "archive", "imagenet")
WORDS = (*_samples.WORDS, "street", "window", "cat", "market", "train", "forest", "beach", "lamp")
_CENTRES, _LATENT = 400, 24
_CLUSTERED, _FAILED, _AGAIN, _MARKED = 20, 200, 10, 250
"""One sample in so many is in a cluster of two, cannot be decoded, is flagged; so many of a batch came before."""
_CONFIG = """\
embedder: {model: ViT-S-32-alt, pretrained: null, checkpoint: weights.pt, device: cpu}
datasets:
  evals: {filter: "source = 'imagenet' AND has_tag('eval')"}
"""
_FIRST = datetime(2024, 1, 1, tzinfo=UTC)


def project_of(folder: Path, samples: int) -> Refinery:
    """The project in `folder`, made first unless it was made before with so many samples: a few minutes a million."""
    made = folder / "made.json"
    wanted = canonical_json({"samples": samples, "version": 1})
    if made.is_file() and made.read_bytes() == wanted:
        return Refinery.open(folder / "project")
    if folder.exists() and any(folder.iterdir()):
        raise SystemExit(f"{folder} holds something else than {samples:,} samples: name another folder.")
    folder.mkdir(parents=True, exist_ok=True)
    project = _create(folder)
    _Maker(project, folder, samples).make()
    made.write_bytes(wanted)
    return Refinery.open(folder / "project")


def _create(folder: Path) -> Refinery:
    """An empty project whose model is a real one with drawn weights: nobody's network is needed."""
    import open_clip
    import torch

    torch.manual_seed(7)
    (folder / "project").mkdir()
    torch.save(
        open_clip.create_model("ViT-S-32-alt", pretrained=None).state_dict(), folder / "project/weights.pt"
    )
    project = Refinery.create(folder / "project", _CONFIG)
    for field in (Field("score", FieldType.NUMBER), Field("keywords", FieldType.STRING_LIST)):
        project.register_field(field, ANA)
    return project


@dataclass(frozen=True, slots=True)
class _Pool:
    """Real pictures, inspected: one row each."""

    facts: pa.Table

    def rows(self, rng: np.random.Generator, count: int) -> pa.Table:
        return self.facts.take(pa.array(rng.integers(0, len(self.facts), count)))


class _Maker:
    def __init__(self, project: Refinery, folder: Path, samples: int) -> None:
        self._project, self._folder, self._samples = project, folder, samples
        rng = np.random.default_rng(11)
        width = project.steps.default_embed.columns.field("vector").type.list_size
        self._basis = rng.standard_normal((_LATENT, width)).astype(np.float32)
        self._centres = rng.standard_normal((_CENTRES, _LATENT)).astype(np.float32) * 1.5

    def make(self) -> None:
        pool = self._pool()
        for start in range(0, self._samples, BATCH):
            self._batch(pool, range(start, min(start + BATCH, self._samples)))
        self._clusters()
        self._project.replay()
        self._project.freeze("gold", actor=ANA)
        ids = [sample_id(n) for n in range(0, self._samples, _MARKED)]
        known = self._project.settings.known_flag_kinds
        kinds = ("reject", "review", "keep")
        self._project.ledger.append(
            flag_event(i, kinds[n % 3], ANA, known_kinds=known, reason="looked at") for n, i in enumerate(ids)
        )
        self._project.ledger.append(tag_event(i, "eval", ANA) for i in ids[::5])
        self._project.replay()
        self._project.freeze("gold", actor=ANA)
        self._project.freeze("evals", actor=ANA)
        self._project.project()

    def _pool(self) -> _Pool:
        """The facts of the pictures, whose bytes are kept under their digests."""
        corpus = build_corpus(self._folder / "corpus", size="small")
        files = [corpus.folder / name for name, file in sorted(corpus.files.items()) if file.readable]
        files += map(Path, photographs(self._folder / "pictures", (768, 512), 140))
        project = self._project
        put = [put_bytes(project.store, path.read_bytes()) for path in files]
        chosen = {p.digest: Sample(p.digest, p.bytes, stored=True) for p in put}
        table, _ = inspect_chunk(
            project.store, list(chosen.values()), project.steps.inspect, project.settings.inspect
        )
        return _Pool(table.filter(table["reason"].is_null()))

    def _batch(self, pool: _Pool, numbers: range) -> None:
        """Write one batch and its facts. The first one holds the pictures of the pool themselves."""
        store, facts, steps = self._project.store, self._project.facts, self._project.steps
        place = numbers.start // BATCH
        rng = np.random.default_rng([place, 3])
        ids = sorted(sample_id(n) for n in numbers)
        rows = pool.rows(rng, len(ids))
        kept: set[str] = set()
        if place == 0:
            kept = set(pool.facts["sample_id"].to_pylist())
            rows = pa.concat_tables([rows, pool.facts])
            ids += pool.facts["sample_id"].to_pylist()
        source = SOURCES[place % len(SOURCES)]
        again = [sample_id(n) for n in range(numbers.start - BATCH, numbers.start, BATCH // _AGAIN) if n >= 0]
        origins = list(_origins([*ids, *again], source, kept, rng))
        report = BatchReport(
            batch=f"{source}-{digest(canonical_json(ids))[:12]}",
            source=source,
            kind="folder",
            path=f"/pictures/{source}",
            entries=len(origins),
            origins=len(origins),
            samples=len(origins),
            ingested_at=(_FIRST + timedelta(hours=2 * place)).isoformat(),
        )
        store.put_if_absent(manifest_key(report.batch), manifest_bytes(origins, report))
        facts.write(steps.inspect, report.batch, self._inspected(ids, rows, rng, kept))
        good = [i for i in ids if not _fails(i) or i in kept]
        vectors = self._vectors(rng, len(good))
        flat = pa.FixedSizeListArray.from_arrays(pa.array(vectors.reshape(-1)), vectors.shape[1])
        names = [self._project.embedder().name] * len(good)
        embed = facts_table(steps.default_embed, {"sample_id": good, "embedder": names, "vector": flat})
        facts.write(steps.default_embed, report.batch, embed)
        marks = {"sample_id": good, "pixels": [True] * len(good), "vector": [True] * len(good)}
        facts.write(steps.near_duplicates, report.batch, facts_table(steps.near_duplicates, marks))
        store.put_if_absent(landed_key(report.batch), canonical_json(report.to_json()))

    def _inspected(
        self, ids: list[str], rows: pa.Table, rng: np.random.Generator, kept: set[str]
    ) -> pa.Table:
        """The facts of pictures of the pool as those of `ids`, with hashes and sides of their own."""
        n = len(ids)
        failed = np.array([_fails(i) and i not in kept for i in ids])
        wide = rng.integers(240, 3000, n)
        sides = np.array([wide, wide * rng.uniform(0.45, 2.2, n)]).astype(np.int32)
        own = {
            "pixel_digest": ids,
            "phash": [i[:16] for i in ids],
            "width": np.where([i in kept for i in ids], rows["width"].to_numpy(), sides[0]),
            "height": np.where([i in kept for i in ids], rows["height"].to_numpy(), sides[1]),
        }
        columns = {name: own.get(name, rows[name].combine_chunks()) for name in rows.column_names[4:]}
        masked = {
            name: pa.array(
                c.to_pylist() if isinstance(c, pa.Array) else c, rows.schema.field(name).type, mask=failed
            )
            for name, c in columns.items()
        }
        reasons = ["truncated" if f else None for f in failed]
        return facts_table(
            self._project.steps.inspect,
            {"sample_id": ids, "reason": reasons, "detail": reasons, **masked},
        )

    def _vectors(self, rng: np.random.Generator, count: int) -> npt.NDArray[np.float32]:
        """Unit vectors around centres in a subspace, with noise, shape (count, dimension)."""
        latent = self._centres[rng.integers(0, _CENTRES, count)] + rng.standard_normal((count, _LATENT))
        raw = latent @ self._basis + 0.5 * rng.standard_normal((count, self._basis.shape[1]))
        return np.asarray(raw / np.linalg.norm(raw, axis=1, keepdims=True), np.float32)

    def _clusters(self) -> None:
        """Say that some samples are near-duplicates, two and two, and that all batches were compared."""
        state = State(self._project.store, self._project.steps.near_duplicates)
        head, etag = state.head()
        ids = sorted(i for n in range(0, self._samples, _CLUSTERED // 2) if not _fails(i := sample_id(n)))
        pairs = ids[: len(ids) // 2 * 2]
        rows = {
            "sample_id": pairs,
            "cluster": [pairs[n // 2 * 2] for n in range(len(pairs))],
            "size": [2] * len(pairs),
        }
        key = state.save(head, "clusters", pa.table(rows, schema=CLUSTERS))
        facts, steps = self._project.facts, self._project.steps
        files = {
            name: facts.files(step)
            for name, step in (("inspect", steps.inspect), ("embed", steps.default_embed))
        }
        compared = {
            b: {name: tokens[b] for name, tokens in files.items()} for b in self._project.batches.landed()
        }
        root = digest(canonical_json(pairs))
        state.swap(
            head,
            etag,
            replace(head, clusters=key, root=root, samples=self._samples, compared=compared),
        )


def sample_id(number: int) -> str:
    """The id of a drawn sample."""
    return digest(number.to_bytes(8, "big"))


def _fails(sample_id: str) -> bool:
    return int(sample_id[:8], 16) % _FAILED == 0


def _origins(
    ids: list[str], source: str, kept: set[str], rng: np.random.Generator
) -> Iterator[dict[str, object]]:
    for i in ids:
        words = [WORDS[w] for w in rng.integers(0, len(WORDS), 8)]
        attributes = {"caption": " ".join(words), "licence": ("cc0", "cc-by", "unknown")[len(words[0]) % 3]}
        if rng.random() < 0.8:
            attributes |= {"score": round(float(rng.random()), 4), "keywords": sorted({*words[:3]})}  # type: ignore[dict-item]
        yield {
            "sample_id": i,
            "uri": f"/pictures/{source}/{i[:2]}/{i[:12]}.jpg",
            "source": source,
            "bytes": 20_000 + int(i[:4], 16),
            "extension": "jpg",
            "stored": i in kept,
            "attributes": canonical_json(attributes).decode(),
            "extras": "{}",
            "payloads": [],
        }


if __name__ == "__main__":
    import sys

    EmbeddingMap.of(project_of(Path(sys.argv[1]), int(sys.argv[2]))).make()
