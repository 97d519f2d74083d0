"""When the graph materializes by itself: one condition, applied in one place."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import dagster as dg
from dagster import AutomationCondition as When

# Sensors start batches, the schedule freezes datasets; everything else follows from data.
FOLLOWING = ("inspected", "embeddings", "near_duplicates", "verdicts", "sample_index", "shards")


def follows_its_inputs(asset: str) -> When[Any]:
    """True when the data version of an input changed (not merely when it was materialized again), every blocking check of
    the inputs passed, and nothing is under way already."""
    changed = When.any_deps_match(When.data_version_changed() | When.will_be_requested())
    passed = When.all_deps_blocking_checks_passed()
    if asset == "sample_index":
        # a dataset that was never frozen has no check that could have passed, and must not keep the index from following
        passed = passed.ignore(dg.AssetSelection.assets("snapshots"))
    return (
        changed.since_last_handled() & passed & ~When.any_deps_in_progress() & ~When.in_progress()
    ).with_label("follows its inputs")


def automated(assets: Sequence[dg.AssetsDefinition]) -> list[dg.AssetsDefinition]:
    """The assets, with the condition on those that follow."""
    return [asset.map_asset_specs(_with_condition) for asset in assets]


def _with_condition(spec: dg.AssetSpec) -> dg.AssetSpec:
    name = spec.key.to_user_string()
    return (
        spec.replace_attributes(automation_condition=follows_its_inputs(name)) if name in FOLLOWING else spec
    )


follow_data = dg.AutomationConditionSensorDefinition(
    "follow_data",
    target=dg.AssetSelection.assets(*FOLLOWING),
    default_status=dg.DefaultSensorStatus.RUNNING,
    minimum_interval_seconds=10,
    description="Materializes what follows when the data of its inputs changed; an unchanged replay launches nothing.",
)
