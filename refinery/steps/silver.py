"""Inspect and embed a batch in one process: each sample is decoded once for both."""

from __future__ import annotations

import time
from collections.abc import Iterable

from refinery.config import InspectSettings
from refinery.embedders import Embedder
from refinery.facts import FactStore
from refinery.progress import NullProgress, Progress
from refinery.steps import StepReport
from refinery.steps.embed import Embedding, decode_and_embed, inspected
from refinery.steps.inspect import inspect_step, run_inspect
from refinery.store import ObjectStore


def run_silver(
    store: ObjectStore,
    batch: str,
    settings: InspectSettings,
    embedder: Embedder,
    *,
    others: Iterable[str] | None = None,
    progress: Progress | None = None,
    threads: int = 0,
) -> tuple[StepReport, StepReport]:
    """Do what `run_inspect` and then `run_embed` would, with one decode; their two reports.

    Embedding happens while inspecting, so the time of both is in the first report's `seconds`.
    """
    others = None if others is None else list(others)
    run = Embedding(store, batch, embedder, others)
    first = run_inspect(
        store,
        batch,
        settings,
        others=others,
        tensor=embedder.input,
        on_tensors=run,
        progress=progress,
        threads=threads,
    )
    started = time.monotonic()
    good = inspected(FactStore(store), inspect_step(settings), batch, run, others)
    decode_and_embed(store, run, settings, embedder, good, NullProgress(), threads=threads)
    return first, run.finish(len(run.missing()), started)
