"""The inspect step: one decode of each sample gives its format, size, digests, hash, figures and thumbnail."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Iterable
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from refinery.config import InspectSettings
from refinery.embedders import TensorSpec
from refinery.facts import TAKEN_DOWN, FactStore, Step, facts_table
from refinery.progress import NullProgress, Progress
from refinery.steps import StepReport
from refinery.steps.samples import Sample, batch_samples, chunks, inputs
from refinery.store import ObjectStore

CODE_VERSION = 3
TOO_LARGE = "too_large"
COLUMNS = pa.schema(
    [
        ("format", pa.string()),
        ("width", pa.int32()),
        ("height", pa.int32()),
        ("orientation", pa.int32()),
        ("mode", pa.string()),
        ("has_alpha", pa.bool_()),
        ("pixel_digest", pa.string()),
        ("phash", pa.string()),
        ("brightness", pa.float64()),
        ("contrast", pa.float64()),
        ("entropy", pa.float64()),
        ("sharpness", pa.float64()),
        ("thumbnail", pa.binary()),
    ]
)

OnTensors = Callable[[list[str], npt.NDArray[np.uint8]], None]
"""Called with (sample ids, their tensors (n, side, side, 3)) for the samples of each chunk that decoded."""


def inspect_step(settings: InspectSettings) -> Step:
    """The inspect step under these caps and sizes."""
    return Step("inspect", CODE_VERSION, settings.model_dump(), columns=COLUMNS)


def run_inspect(
    store: ObjectStore,
    batch: str,
    settings: InspectSettings,
    *,
    others: Iterable[str] | None = None,
    tensor: TensorSpec | None = None,
    on_tensors: OnTensors | None = None,
    progress: Progress | None = None,
    threads: int = 0,
) -> StepReport:
    """Inspect what a batch lacks and write its facts. A bad sample is a failed fact, never an error.

    With `tensor` and `on_tensors` the same decode also hands on what an embedder wants. Facts are written at the
    end, once; a run that was killed starts over. `others` are the batches that share samples with this one (None: unknown).
    Raises InputError(kind="no_such_batch").
    """
    started = time.monotonic()
    step = inspect_step(settings)
    facts = FactStore(store)
    samples = batch_samples(store, batch)
    todo = _todo(facts, step, batch, samples, settings.max_bytes, others)
    tables: list[pa.Table] = []
    progress = progress or NullProgress()
    progress.start(len(todo), "samples")
    try:
        for chunk in chunks(todo):
            table, tensors = inspect_chunk(
                store, chunk, step, settings, tensor if on_tensors else None, threads=threads
            )
            good = table["reason"].is_null().to_numpy(zero_copy_only=False)
            if on_tensors is not None and tensors is not None and good.any():
                on_tensors(table["sample_id"].filter(pa.array(good)).to_pylist(), tensors[good])
            tables.append(table)
            progress.advance(len(chunk), sum(sample.bytes for sample in chunk))
    finally:
        progress.done()
    computed = pa.concat_tables([step.schema.empty_table(), *tables])
    facts.write(step, batch, computed)
    failed = Counter(reason for reason in computed["reason"].to_pylist() if reason is not None)
    return StepReport(
        step=step.name,
        step_key=step.key,
        batch=batch,
        samples=len(samples),
        computed=len(todo),
        reused=len(samples) - len(todo),
        failed=dict(sorted(failed.items())),
        seconds=time.monotonic() - started,
    )


def inspect_chunk(
    store: ObjectStore,
    samples: list[Sample],
    step: Step,
    settings: InspectSettings,
    tensor: TensorSpec | None = None,
    *,
    threads: int = 0,
) -> tuple[pa.Table, npt.NDArray[np.uint8] | None]:
    """Facts of some samples (in their order), and their tensors (n, side, side, 3), zeros for failures."""
    import datago

    kept = [sample for sample in samples if sample.stored and not sample.taken_down]
    result = datago.inspect(
        inputs(store, kept),
        thumbnail_side=settings.thumbnail_side,
        tensor_side=tensor.side if tensor else None,
        tensor_fit=tensor.fit if tensor else "crop",
        max_bytes=settings.max_bytes,
        max_pixels=settings.max_pixels,
        threads=threads,
    )
    rows = _rows(kept, result.columns)
    table = facts_table(step, rows)
    tensors = result.tensors
    if len(kept) < len(samples):
        gone = [sample.sample_id for sample in samples if sample.taken_down]
        dropped = [sample for sample in samples if not sample.stored and not sample.taken_down]
        down = facts_table(step, {"sample_id": gone, "reason": [TAKEN_DOWN] * len(gone)})
        table = pa.concat_tables([table, _too_large(step, dropped, settings.max_bytes), down])
        if tensors is not None:
            blank = np.zeros((len(samples) - len(kept), *tensors.shape[1:]), np.uint8)
            tensors = np.concatenate([tensors, blank])
    return table, tensors


def _todo(
    facts: FactStore,
    step: Step,
    batch: str,
    samples: list[Sample],
    max_bytes: int,
    others: Iterable[str] | None,
) -> list[Sample]:
    """What to inspect: what is missing, what failed as too large in a batch that did not keep the bytes this one has, and
    what was taken down and has come back."""
    batches = None if others is None else [batch, *others]
    missing = set(facts.missing(step, batch, (s.sample_id for s in samples), batches))
    regained = [
        s.sample_id for s in samples if s.stored and s.bytes <= max_bytes and s.sample_id not in missing
    ]
    found = facts.read(step, batches=batches, sample_ids=regained, columns=["sample_id", "reason"])
    back = {s.sample_id for s in samples if not s.taken_down}
    for sample_id, reason in zip(*(column.to_pylist() for column in found.columns), strict=True):
        if reason == TOO_LARGE or (reason == TAKEN_DOWN and sample_id in back):
            missing.add(sample_id)
    return [s for s in samples if s.sample_id in missing]


def _rows(samples: list[Sample], columns: dict[str, Any]) -> dict[str, Any]:
    reasons: list[str | None] = list(columns["reason"])
    details: list[str | None] = list(columns["detail"])
    retryable = [bool(value) for value in columns["retryable"]]
    for i, (sample, digest) in enumerate(zip(samples, columns["digest"], strict=True)):
        if digest is not None and digest != sample.sample_id:
            reasons[i], retryable[i] = "digest_mismatch", True
            details[i] = f"The stored bytes have digest {digest}: restore the object from its origin."
    failed = np.array([reason is not None for reason in reasons], dtype=bool)
    rows: dict[str, Any] = {
        "sample_id": [sample.sample_id for sample in samples],
        "reason": reasons,
        "detail": details,
        "retryable": retryable,
    }
    for column in COLUMNS:
        values = columns[column.name]
        if column.name == "phash":
            values = [f"{int(value):016x}" for value in values]
        rows[column.name] = pa.array(values, mask=failed)
    return {
        name: value.cast(COLUMNS.field(name).type) if isinstance(value, pa.Array) else value
        for name, value in rows.items()
    }


def _too_large(step: Step, samples: list[Sample], max_bytes: int) -> pa.Table:
    return facts_table(
        step,
        {
            "sample_id": [s.sample_id for s in samples],
            "reason": [TOO_LARGE] * len(samples),
            "detail": [
                f"It has {s.bytes:,} bytes and was not kept (the cap is {max_bytes:,}): raise inspect.max_bytes "
                "and ingest it again."
                for s in samples
            ],
        },
    )
