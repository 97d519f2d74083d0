"""Reports of `refinery` as metadata of materializations, and the data versions that go with them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from functools import reduce
from operator import add
from typing import Any

import dagster as dg

from assets.metadata import Clock, counts, table
from refinery.digests import digest, digest_json
from refinery.export import ExportReport
from refinery.facts import Step
from refinery.gates import GateReport
from refinery.links import batch_link, snapshot_link, viewer_link
from refinery.near_duplicates import ClusterReport
from refinery.project import Refinery
from refinery.projection import ProjectionReport
from refinery.replay import ReplayReport
from refinery.snapshots import Snapshot
from refinery.steps import StepReport


def facts_version(project: Refinery, batch: str, steps: Sequence[Step]) -> str:
    """The data version of a batch's facts: what the steps are, and what they wrote for the batch."""
    files = [project.store.get_with_etag(f"{step.folder}/{batch}.parquet") for step in steps]
    return digest_json([[s.key, digest(f[0]) if f else ""] for s, f in zip(steps, files, strict=True)])


def index_version(project: Refinery) -> str:
    """The data version of the index: what every document says."""
    documents = project.index.digests()
    return digest_json([documents["sample_id"].to_pylist(), documents["doc_digest"].to_pylist()])


def step_metadata(project: Refinery, reports: Sequence[StepReport], clock: Clock) -> dict[str, Any]:
    """What steps did to one batch; samples = computed + reused + skipped, summed over the steps."""
    batch = project.batches.info(reports[0].batch)
    failed: Counter[str] = Counter()
    for report in reports:
        failed.update(report.failed)
    computed = sum(r.computed for r in reports)
    share = computed / max(1, sum(r.samples for r in reports))
    return {
        **clock.rates(computed, round(share * batch.bytes)),
        "computed": computed,
        "reused": sum(r.reused for r in reports),
        "skipped": sum(r.skipped for r in reports),
        "failed": sum(failed.values()),
        "samples": reports[0].samples,
        "failures": counts("failed because", failed),
        "step_keys": ", ".join(r.step_key for r in reports),
        "viewer": dg.MetadataValue.url(batch_link(reports[0].batch)),
    }


def cluster_metadata(report: ClusterReport) -> dict[str, Any]:
    """What an update of the clusters did, and how many there are."""
    return {
        "computed": report.new,
        "reused": report.samples - report.new,
        "samples": report.samples,
        "clusters": report.clusters,
        "clustered_samples": report.clustered,
        "largest_cluster": report.largest,
        "changed_samples": len(report.changed),
        "pairs_multiplied": report.pairs,
        "joined": counts("joined by", report.joined),
        "root": report.root,
        "viewer": dg.MetadataValue.url(viewer_link(where="near_duplicate")),
    }


def replay_metadata(report: ReplayReport, audited: Mapping[str, int]) -> dict[str, Any]:
    """What a replay did; seen = gold + held + pending, as counted anew."""
    return {
        "computed": report.evaluated,
        "reused": report.reused,
        "changed": report.changed,
        "scope": report.scope,
        **{name: audited[name] for name in ("seen", "gold", "held", "pending")},
        "held_because": counts("held because", report.held),
        "flips": dict(report.flips),
        "root": report.root,
        "previous_root": report.previous_root,
        "ledger_offset": report.ledger_offset,
        "viewer": dg.MetadataValue.url(viewer_link(page="health")),
    }


def projection_metadata(report: ProjectionReport) -> dict[str, Any]:
    """What a projection wrote; documents = computed + reused (a newer projection's writes included)."""
    return {
        "computed": report.upserted,
        "reused": report.unchanged + report.superseded,
        "deleted": report.deleted,
        "documents": report.documents,
        "ledger_offset": report.ledger_offset,
        "viewer": dg.MetadataValue.url(viewer_link()),
    }


def snapshot_metadata(project: Refinery, snapshot: Snapshot, new: bool) -> dict[str, Any]:
    """A snapshot and what it was computed from; against its parent, how many samples came and went."""
    came, went = snapshot.count, 0
    if (parent := project.snapshots.parent(snapshot)) is not None:
        gone, added = project.replayer.trees.diff(parent.node, snapshot.node)
        old, now = set(gone["sample_id"].to_pylist()), set(added["sample_id"].to_pylist())
        came, went = len(now - old), len(old - now)
    return {
        "computed": int(new),
        "reused": int(not new),
        "snapshot": snapshot.ref,
        "samples": snapshot.count,
        "added_samples": came,
        "removed_samples": went,
        "root": snapshot.root,
        "parent": snapshot.parent or "none",
        "filter": snapshot.filter or "all of gold",
        "view": snapshot.view or "none",
        "policy": snapshot.policy,
        "ledger_offset": snapshot.ledger_offset,
        "card": dg.MetadataValue.md(project.card(snapshot.ref).markdown()),
        "viewer": dg.MetadataValue.url(snapshot_link(snapshot.ref)),
    }


def gate_metadata(reports: Sequence[GateReport]) -> dict[str, Any]:
    """What the gates of datasets measured, a number each, and the reports."""
    numbers = {
        f"{report.head.name}.{result.rule}.{measure.name.replace(' ', '_')}": measure.value
        for report in reports
        for result in report.results
        for measure in result.measures
        if measure.value is not None
    }
    shown = {"report": dg.MetadataValue.md("\n".join(r.markdown() for r in reports))} if reports else {}
    return {
        **numbers,
        "gates": len(reports),
        "failed_rules": sum(len(report.failed) for report in reports),
        **shown,
    }


def export_metadata(snapshot: Snapshot, reports: Sequence[ExportReport], clock: Clock) -> dict[str, Any]:
    """What exporting a snapshot by all of its recipes wrote; shards = computed + reused."""
    written = sum(r.written for r in reports)
    shards = sum(r.shards for r in reports)
    share = written / max(1, shards)
    buckets: Counter[str] = Counter()
    for report in reports:
        buckets.update(report.buckets)
    rows = [(r.prefix, r.shards, r.written, r.samples, f"{r.bytes / 1e6:.1f}") for r in reports]
    return {
        **clock.rates(
            round(share * sum(r.samples for r in reports)), round(share * sum(r.bytes for r in reports))
        ),
        "computed": written,
        "reused": shards - written,
        "snapshot": snapshot.ref,
        "recipes": len(reports),
        "shards": shards,
        "samples": sum(r.samples for r in reports),
        "bytes": sum(r.bytes for r in reports),
        "exports": table(["export", "shards", "written now", "samples", "MB"], rows),
        "aspect_buckets": counts("bucket", buckets),
        "viewer": dg.MetadataValue.url(snapshot_link(snapshot.ref)),
        **_spent(reports),
    }


def _spent(reports: Sequence[ExportReport]) -> dict[str, Any]:
    """Where the time went, if there was anything to write."""
    stages = reduce(add, (r.stages for r in reports)) if reports else None
    if stages is None or stages.bottleneck is None:
        return {}
    seconds = [(name, f"{spent:.3f}") for name, spent in stages.work.items() if spent]
    return {"bottleneck": stages.bottleneck, "stage_seconds": table(["stage", "seconds"], seconds)}
