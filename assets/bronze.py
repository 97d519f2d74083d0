"""Bronze: raw pictures, immutable, as they came."""

import dagster as dg

from assets.metadata import Clock, counts
from assets.partitions import BATCHES
from refinery.batches import manifest_key
from refinery.digests import digest
from refinery.ingest import land
from refinery.links import batch_link
from resources import RefineryResource


@dg.asset(
    partitions_def=BATCHES,
    group_name="bronze",
    kinds={"parquet"},
    code_version="1",
    description="The origins and bytes of one batch: every file that was staged is a sample, or unreadable with a reason.",
)
def raw_samples(context: dg.AssetExecutionContext, refinery: RefineryResource) -> dg.MaterializeResult[None]:
    project, clock = refinery.open(), Clock()
    batch = context.partition_key
    before = project.batches.is_landed(batch)
    report = land(
        project.store,
        project.fields,
        batch,
        max_bytes=project.settings.inspect.max_bytes,
        progress=refinery.progress("land"),
    )
    computed = 0 if before else report.entries
    return dg.MaterializeResult(
        data_version=dg.DataVersion(digest(project.store.get(manifest_key(batch)))),
        metadata={
            **clock.rates(computed, 0 if before else report.bytes),
            "computed": computed,
            "reused": report.entries - computed,
            "entries": report.entries,
            "origins": report.origins,
            "unreadable_entries": report.entries - report.origins,
            "samples": report.samples,
            "new_samples": report.new,
            "known_samples": report.known,
            "over_cap_samples": report.over_cap,
            "payloads": report.payloads,
            "bytes": report.bytes,
            "unreadable": counts("unreadable because", report.unreadable_by_reason),
            "viewer": dg.MetadataValue.url(batch_link(batch)),
        },
    )
