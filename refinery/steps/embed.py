"""The embed step: one unit vector for each sample that decodes."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterable
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from refinery.config import InspectSettings
from refinery.embedders import Embedder
from refinery.facts import FactStore, Step, facts_table
from refinery.progress import NullProgress, Progress
from refinery.steps import StepReport
from refinery.steps.inspect import inspect_chunk, inspect_step
from refinery.steps.samples import Sample, batch_samples, chunks
from refinery.steps.tensors import drop_spill, read_spill
from refinery.store import ObjectStore

CODE_VERSION = 1
NON_FINITE = "non_finite"


def embed_step(embedder: Embedder) -> Step:
    """The embed step of a model. Its own columns: `embedder` (the model's name), `vector` (unit, float32)."""
    params = {
        "embedder": embedder.name,
        "dimension": embedder.dimension,
        "side": embedder.input.side,
        "fit": embedder.input.fit,
    }
    columns = pa.schema([("embedder", pa.string()), ("vector", pa.list_(pa.float32(), embedder.dimension))])
    return Step("embed", CODE_VERSION, params, embedder.model_digest, columns)


class Embedding:
    """One batch being embedded: call it with (sample ids, tensors) as they come, then `finish`."""

    def __init__(
        self, store: ObjectStore, batch: str, embedder: Embedder, others: Iterable[str] | None = None
    ) -> None:
        self._facts = FactStore(store)
        self._batch = batch
        self._embedder = embedder
        self.step = embed_step(embedder)
        self.samples = batch_samples(store, batch)
        missing = self._facts.missing(self.step, batch, (s.sample_id for s in self.samples), others)
        self._missing = set(missing)
        self._tables: list[pa.Table] = []

    def __call__(self, sample_ids: list[str], tensors: npt.NDArray[np.uint8]) -> None:
        """Embed those of the samples that still lack a vector."""
        wanted = np.array([sample_id in self._missing for sample_id in sample_ids], dtype=bool)
        if not wanted.any():
            return
        ids = [sample_id for sample_id, take in zip(sample_ids, wanted, strict=True) if take]
        vectors = self._embedder.embed_images(np.ascontiguousarray(tensors[wanted]))
        self._tables.append(_facts_of(self.step, self._embedder.name, ids, vectors))
        self._missing.difference_update(ids)

    def missing(self) -> list[Sample]:
        """The samples that have no vector yet."""
        return [sample for sample in self.samples if sample.sample_id in self._missing]

    def fail(self, table: pa.Table) -> None:
        """Note samples whose decoding failed this time, although their inspection succeeded: `table` has their outcome."""
        rows = {name: table[name].to_pylist() for name in ("sample_id", "reason", "detail", "retryable")}
        self._tables.append(facts_table(self.step, rows))
        self._missing.difference_update(rows["sample_id"])

    def finish(self, skipped: int, started: float) -> StepReport:
        """Write the facts. `skipped` samples are not for this step; `started` is time.monotonic() at the start."""
        computed = pa.concat_tables([self.step.schema.empty_table(), *self._tables])
        self._facts.write(self.step, self._batch, computed)
        failed = Counter(reason for reason in computed["reason"].to_pylist() if reason is not None)
        return StepReport(
            step=self.step.name,
            step_key=self.step.key,
            batch=self._batch,
            samples=len(self.samples),
            computed=computed.num_rows,
            reused=len(self.samples) - computed.num_rows - skipped,
            skipped=skipped,
            failed=dict(sorted(failed.items())),
            seconds=time.monotonic() - started,
        )


def run_embed(
    store: ObjectStore,
    batch: str,
    settings: InspectSettings,
    embedder: Embedder,
    *,
    others: Iterable[str] | None = None,
    scratch: Path | None = None,
    progress: Progress | None = None,
    threads: int = 0,
) -> StepReport:
    """Embed what a batch lacks and write its facts. Samples whose inspection failed, or is missing, are skipped.

    Tensors come from the spill that inspect left under `scratch`, else from decoding again.
    Raises ConfigError (see `make_embedder`), InputError(kind="no_such_batch").
    """
    started = time.monotonic()
    others = None if others is None else list(others)
    run = Embedding(store, batch, embedder, others)
    good = inspected(FactStore(store), inspect_step(settings), batch, run, others)
    progress = progress or NullProgress()
    progress.start(len(good), "samples")
    try:
        if scratch is not None and good:
            for ids, tensors in read_spill(scratch, embedder.input, batch):
                known = np.array([sample_id in good for sample_id in ids], dtype=bool)
                if known.any():
                    run([i for i in ids if i in good], tensors[known])
                    progress.advance(int(known.sum()))
        decode_and_embed(store, run, settings, embedder, good, progress, threads=threads)
    finally:
        progress.done()
    report = run.finish(len(run.missing()), started)
    if scratch is not None:
        drop_spill(scratch, embedder.input, batch)
    return report


def decode_and_embed(
    store: ObjectStore,
    run: Embedding,
    settings: InspectSettings,
    embedder: Embedder,
    good: set[str],
    progress: Progress,
    *,
    threads: int = 0,
) -> None:
    """Decode those samples of `good` that still lack a vector, for the tensor alone, and embed them."""
    step = inspect_step(settings)
    small = settings.model_copy(update={"thumbnail_side": 16})
    for chunk in chunks([sample for sample in run.missing() if sample.sample_id in good]):
        table, tensors = inspect_chunk(store, chunk, step, small, embedder.input, threads=threads)
        decoded = table["reason"].is_null()
        if tensors is not None:
            mask = decoded.to_numpy(zero_copy_only=False)
            run(table["sample_id"].filter(decoded).to_pylist(), tensors[mask])
        run.fail(table.filter(pc.invert(decoded)))
        progress.advance(len(chunk), sum(sample.bytes for sample in chunk))


def inspected(facts: FactStore, step: Step, batch: str, run: Embedding, others: list[str] | None) -> set[str]:
    """Those of the samples still to embed whose inspection succeeded."""
    table = facts.read(
        step,
        batches=None if others is None else [batch, *others],
        sample_ids=[sample.sample_id for sample in run.missing()],
        columns=["sample_id", "reason"],
    )
    return set(table.filter(table["reason"].is_null())["sample_id"].to_pylist())


def _facts_of(step: Step, name: str, ids: list[str], vectors: npt.NDArray[np.float32]) -> pa.Table:
    finite = np.isfinite(vectors).all(axis=1)
    values = pa.array(np.where(finite[:, None], vectors, 0).astype(np.float32).ravel())
    bad = [not ok for ok in finite.tolist()]
    return facts_table(
        step,
        {
            "sample_id": ids,
            "reason": [NON_FINITE if b else None for b in bad],
            "detail": [
                f"{name} gave a vector that is not finite or has no direction." if b else None for b in bad
            ],
            "embedder": [None if b else name for b in bad],
            "vector": pa.FixedSizeListArray.from_arrays(
                values, vectors.shape[1], mask=pa.array(bad, pa.bool_())
            ),
        },
    )
