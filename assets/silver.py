"""Silver: decoded, checked, hashed, embedded, clustered, searchable."""

import dagster as dg

from assets.metadata import Clock, thumbnails
from assets.partitions import BATCHES
from assets.plan import sharing
from assets.reports import cluster_metadata, facts_version, index_version, projection_metadata, step_metadata
from refinery.near_duplicates import update_clusters
from refinery.near_duplicates.clusters import CODE_VERSION as CLUSTERS_VERSION
from refinery.steps import inspect as inspecting
from refinery.steps.embed import CODE_VERSION as EMBED_VERSION
from refinery.steps.embed import run_embed
from refinery.steps.tensors import SpillWriter
from resources import RefineryResource


@dg.asset(
    partitions_def=BATCHES,
    deps=["raw_samples"],
    group_name="silver",
    kinds={"rust", "parquet"},
    code_version=str(inspecting.CODE_VERSION),
    description="One decode of every sample: format, size, digests, perceptual hash, figures, thumbnail; and, kept aside "
    "for `embeddings`, the picture that the model wants. A sample that cannot be decoded is a fact with a reason.",
)
def inspected(context: dg.AssetExecutionContext, refinery: RefineryResource) -> dg.MaterializeResult[None]:
    project, clock = refinery.open(), Clock()
    batch, spec = context.partition_key, project.embedder().input
    with SpillWriter(project.scratch, spec, batch) as spill:
        report = inspecting.run_inspect(
            project.store,
            batch,
            project.settings.inspect,
            others=sharing(project).get(batch, []),
            tensor=spec,
            on_tensors=spill,
            progress=refinery.progress("inspect"),
            threads=refinery.workers,
        )
    return dg.MaterializeResult(
        data_version=dg.DataVersion(facts_version(project, batch, [project.steps.inspect])),
        metadata={
            **step_metadata(project, [report], clock),
            "pictures": thumbnails(project, project.batches.samples(batch)),
        },
    )


@dg.asset(
    partitions_def=BATCHES,
    deps=[inspected],
    group_name="silver",
    kinds={"pytorch", "parquet"},
    code_version=str(EMBED_VERSION),
    description="One unit vector per sample that decoded and per embedding space of the project, with the model's name "
    "and the digest of its weights. What `inspected` decoded in the same run is not decoded again.",
)
def embeddings(context: dg.AssetExecutionContext, refinery: RefineryResource) -> dg.MaterializeResult[None]:
    project, clock = refinery.open(), Clock()
    batch = context.partition_key
    reports = [
        run_embed(
            project.store,
            batch,
            project.settings.inspect,
            project.embedder(space),
            others=sharing(project).get(batch, []),
            scratch=project.scratch if space == "default" else None,
            progress=refinery.progress("embed"),
            threads=refinery.workers,
        )
        for space in project.settings.spaces
    ]
    return dg.MaterializeResult(
        data_version=dg.DataVersion(facts_version(project, batch, list(project.steps.embed.values()))),
        metadata={
            **step_metadata(project, reports, clock),
            "embedders": ", ".join(project.embedder(space).name for space in project.settings.spaces),
        },
    )


@dg.asset(
    deps=[inspected, embeddings],
    group_name="silver",
    kinds={"python", "parquet"},
    code_version=str(CLUSTERS_VERSION),
    description="Clusters of samples that show the same picture: equal pixels, close perceptual hashes or close embeddings. "
    "What is new is compared with everything; the clusters do not depend on the order in which batches came.",
)
def near_duplicates(refinery: RefineryResource) -> dg.MaterializeResult[None]:
    project, clock = refinery.open(), Clock()
    steps = project.steps
    report = update_clusters(
        project.store,
        steps.near_duplicates,
        steps.inspect,
        steps.default_embed,
        progress=refinery.progress("near-duplicates"),
    )
    return dg.MaterializeResult(
        data_version=dg.DataVersion(f"{report.step_key}:{report.samples}:{report.root}"),
        metadata={
            **cluster_metadata(report),
            **clock.rates(report.new, 0),
            "pictures": thumbnails(project, report.changed[:64]),
        },
    )


@dg.asset(
    deps=["verdicts", "snapshots"],
    group_name="silver",
    kinds={"lancedb"},
    pool="index",
    code_version="1",
    description="One searchable document per sample, with its verdict and the snapshots it is in: a projection of truth, "
    "written after replay, that can be wiped and made again. Only documents that differ are written.",
)
def sample_index(refinery: RefineryResource) -> dg.MaterializeResult[None]:
    project, clock = refinery.open(), Clock()
    report = project.project()
    return dg.MaterializeResult(
        data_version=dg.DataVersion(index_version(project)),
        metadata={**projection_metadata(report), **clock.rates(report.upserted, 0)},
    )
