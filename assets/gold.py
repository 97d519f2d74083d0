"""Gold: judged, frozen, sharded."""

import dagster as dg

from assets.metadata import Clock, thumbnails
from assets.partitions import DATASETS
from assets.reports import export_metadata, replay_metadata, snapshot_metadata
from refinery import accounting
from refinery.digests import digest_json
from refinery.errors import CorruptionError, GateError
from refinery.export import parse_export
from resources import RefineryResource


@dg.asset(
    deps=["near_duplicates"],
    group_name="gold",
    kinds={"parquet"},
    code_version="1",
    description="The verdict of every sample ever seen: gold, held (with reasons) or pending, from its facts, the flags on "
    "it and the policy. Only affected samples are evaluated; the root is that of a full rebuild.",
)
def verdicts(refinery: RefineryResource) -> dg.MaterializeResult[None]:
    project, clock = refinery.open(), Clock()
    report = project.replay()
    audited = accounting.audit(project.store, project.batches)
    return dg.MaterializeResult(
        data_version=dg.DataVersion(report.root),
        metadata={
            **replay_metadata(report, audited),
            **clock.rates(report.evaluated, 0),
            "pictures": thumbnails(project, report.changed_ids[:64]),
        },
    )


@dg.asset(
    partitions_def=DATASETS,
    deps=[verdicts],
    group_name="gold",
    kinds={"parquet"},
    code_version="1",
    description="The newest version of a dataset: gold, narrowed by the dataset's filter, frozen under one root. "
    "Unchanged membership makes no new version.",
)
def snapshots(context: dg.AssetExecutionContext, refinery: RefineryResource) -> dg.MaterializeResult[None]:
    project, clock = refinery.open(), Clock()
    accounting.audit(project.store, project.batches)
    snapshot, new = project.freeze(context.partition_key)
    members = project.snapshots.rows(snapshot)["sample_id"].to_pylist()
    return dg.MaterializeResult(
        data_version=dg.DataVersion(f"{snapshot.ref}:{snapshot.root}"),
        metadata={
            **snapshot_metadata(project, snapshot, new),
            **clock.rates(snapshot.count if new else 0, 0),
            "pictures": thumbnails(project, members[:64]),
        },
    )


@dg.asset(
    partitions_def=DATASETS,
    deps=[snapshots],
    group_name="gold",
    kinds={"rust"},
    code_version="1",
    description="The shards of a dataset's newest snapshot, by every recipe that refinery.yaml gives it: a pure function "
    "of snapshot and recipe, written by datago; what is written is not written again.",
)
def shards(context: dg.AssetExecutionContext, refinery: RefineryResource) -> dg.MaterializeResult[None]:
    project, clock = refinery.open(), Clock()
    snapshot = project.snapshots.get(context.partition_key)
    for finding in project.snapshots.verify(snapshot, blobs=False):
        raise CorruptionError(f"{snapshot.ref} cannot be exported. {finding}", kind="damaged_snapshot")
    gate = project.dataset_gate(snapshot)
    if gate is not None and not gate.passed:
        raise GateError(f"{gate.summary} Mend the dataset and freeze it again.", kind="gate_failed")
    asked = [parse_export(raw) for raw in project.settings.datasets[snapshot.name].exports]
    reports = [
        project.exporter.export(
            snapshot,
            recipe,
            split=split,
            workers=max(1, refinery.workers),
            progress=refinery.progress("export"),
        )
        for recipe, split in asked
    ]
    return dg.MaterializeResult(
        data_version=dg.DataVersion(
            digest_json(
                [snapshot.root, sorted(r.digest if s is None else f"{r.digest} {s}" for r, s in asked)]
            )
        ),
        metadata=export_metadata(snapshot, reports, clock),
    )
