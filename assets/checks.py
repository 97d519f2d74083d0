"""Asset checks. They tell people, and stop the run they are part of; gold verifies its inputs again by itself."""

import dagster as dg
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from assets.gold import shards, snapshots, verdicts
from assets.metadata import table
from assets.plan import plan_batches
from assets.reports import gate_metadata
from assets.silver import embeddings, sample_index
from refinery import accounting
from refinery.errors import CorruptionError
from refinery.export_check import ExportCheck
from refinery.project import Refinery
from refinery.snapshots import Snapshot
from resources import RefineryResource

_SHOWN = 20


@dg.asset_check(
    asset=verdicts,
    blocking=True,
    description="seen = gold + held + pending, counted anew from the manifests and from the rows of the verdict state.",
)
def accounting_adds_up(refinery: RefineryResource) -> dg.AssetCheckResult:
    project = refinery.open()
    try:
        found = accounting.audit(project.store, project.batches)
    except CorruptionError as error:
        return _result([str(error)])
    fits = found["seen"] == found["gold"] + found["held"] + found["pending"]
    return _result([] if fits else [f"{found} does not add up."], **found)


@dg.asset_check(
    asset=embeddings,
    blocking=True,
    description="Every sample of a landed batch that decoded has its vector or a failure with a reason, in every embedding "
    "space, and every vector is finite and of length 1.",
)
def embeddings_finite_and_complete(refinery: RefineryResource) -> dg.AssetCheckResult:
    project = refinery.open()
    lacking = [w for w in plan_batches(project) if w.landed and w.marked and w.embed]
    findings = [f"Batch {w.batch} lacks the embeddings of {w.embed} samples." for w in lacking]
    vectors = failures = 0
    for space, step in project.steps.embed.items():
        facts = project.facts.read(step, columns=["sample_id", "reason", "vector"])
        good = facts.filter(pc.is_null(facts["reason"]))
        bad = _not_unit(good["vector"].combine_chunks(), good.num_rows)
        findings += [
            f"Vector of sample {i} in space {space!r} is not a finite unit vector."
            for i in good["sample_id"].filter(bad).to_pylist()
        ]
        vectors, failures = vectors + len(good), failures + len(facts) - len(good)
    missing = sum(w.embed for w in lacking)
    return _result(findings, vectors=vectors, missing=missing, failures_listed=failures)


@dg.asset_check(
    asset=sample_index,
    description="The index has exactly the documents that truth gives, each with the same digest.",
)
def index_matches_truth(refinery: RefineryResource) -> dg.AssetCheckResult:
    project = refinery.open()
    truth, index = (
        dict(zip(t["sample_id"].to_pylist(), t["doc_digest"].to_pylist(), strict=True))
        for t in (project.projector.documents(), project.index.digests())
    )
    findings = [f"Document {i} is missing." for i in sorted(truth.keys() - index.keys())]
    findings += [f"Document {i} should not be there." for i in sorted(index.keys() - truth.keys())]
    findings += [f"Document {i} differs." for i in sorted(truth) if i in index and index[i] != truth[i]]
    return _result(findings, documents=len(truth))


@dg.asset_check(
    asset=snapshots,
    blocking=True,
    description="The newest snapshots are what their roots say, and every blob they name has its digest.",
)
def snapshot_verifies(
    context: dg.AssetCheckExecutionContext, refinery: RefineryResource
) -> dg.AssetCheckResult:
    project = refinery.open()
    newest = _newest(project, context)
    findings = [finding for s in newest for finding in project.snapshots.verify(s)]
    return _result(findings, snapshots=len(newest), samples=sum(s.count for s in newest))


@dg.asset_check(
    asset=snapshots,
    blocking=True,
    description="The step to the newest snapshot from its parent passes the gate that refinery.yaml gives the dataset.",
)
def gate_passes(context: dg.AssetCheckExecutionContext, refinery: RefineryResource) -> dg.AssetCheckResult:
    project = refinery.open()
    judged = [project.dataset_gate(snapshot) for snapshot in _newest(project, context)]
    reports = [report for report in judged if report is not None]
    failed = [report.summary for report in reports if not report.passed]
    return dg.AssetCheckResult(
        passed=not failed, description=" ".join(failed) or None, metadata=gate_metadata(reports)
    )


@dg.asset_check(
    asset=shards,
    description="The newest snapshots' exports are what was written: shards, records and index, to the byte.",
)
def shards_verify(context: dg.AssetCheckExecutionContext, refinery: RefineryResource) -> dg.AssetCheckResult:
    project = refinery.open()
    newest, check = _newest(project, context), ExportCheck(project.store, project.snapshots)
    findings = [finding for s in newest for finding in check.findings(s)]
    if findings:
        return _result(findings)
    indexes = [index for s in newest for index in project.exporter.exports(s)]
    return _result([], exports=len(indexes), shards=sum(len(i["files"]) for i in indexes))


def _newest(project: Refinery, context: dg.AssetCheckExecutionContext) -> list[Snapshot]:
    """The newest snapshot of the dataset that the run is about; of every dataset when it is about none."""
    name = context.run.tags.get("dagster/partition")
    found = [project.snapshots.latest(n) for n in ([name] if name else project.snapshots.names())]
    return [snapshot for snapshot in found if snapshot is not None]


def _not_unit(vectors: pa.Array, rows: int) -> pa.Array:
    """Which of these fixed-size lists of numbers are not finite or not of length 1."""
    if rows == 0:
        return pa.array([], pa.bool_())
    matrix = np.asarray(vectors.flatten()).reshape(rows, -1).astype(np.float64)
    with np.errstate(invalid="ignore", over="ignore"):
        lengths = np.linalg.norm(matrix, axis=1)
    return pa.array(~(np.isfinite(lengths) & (np.abs(lengths - 1) < 1e-3)))


def _result(findings: list[str], **numbers: int) -> dg.AssetCheckResult:
    shown = {"findings": table(["finding"], ([f] for f in findings[:_SHOWN]))} if findings else {}
    return dg.AssetCheckResult(
        passed=not findings,
        description=f"{len(findings)} findings; the first: {findings[0]}" if findings else None,
        metadata={**numbers, "findings_count": len(findings), **shown},
    )
