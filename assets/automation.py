"""When the graph materializes by itself: one condition, applied in one place."""

from __future__ import annotations

from collections.abc import Sequence

import dagster as dg
from dagster import AutomationCondition as When

# Sensors start batches; the schedule freezes datasets. Everything between follows from data.
_FOLLOWS = dg.AssetSelection.assets(
    "inspected", "embeddings", "near_duplicates", "verdicts", "sample_index", "shards"
)

# A dataset that was never frozen has no check that could have passed, and must not keep the index from following.
_UNBLOCKING = dg.AssetSelection.assets("snapshots")


def follows_its_inputs() -> When[dg.AssetKey]:
    """True when the data version of an input changed (not merely when it was materialized again), every blocking check of
    the inputs passed, and nothing is under way already."""
    changed = When.any_deps_match(When.data_version_changed() | When.will_be_requested())
    return (
        changed.since_last_handled()
        & When.all_deps_blocking_checks_passed().ignore(_UNBLOCKING)
        & ~When.any_deps_in_progress()
        & ~When.in_progress()
    ).with_label("follows its inputs")


def automated(assets: Sequence[dg.AssetsDefinition]) -> list[dg.AssetsDefinition]:
    """The assets, with the condition on those that follow."""
    names = {"inspected", "embeddings", "near_duplicates", "verdicts", "sample_index", "shards"}
    condition = follows_its_inputs()
    return [
        asset.map_asset_specs(
            lambda spec: (
                spec.replace_attributes(automation_condition=condition)
                if spec.key.to_user_string() in names
                else spec
            )
        )
        for asset in assets
    ]


follow_data = dg.AutomationConditionSensorDefinition(
    "follow_data",
    target=_FOLLOWS,
    default_status=dg.DefaultSensorStatus.RUNNING,
    minimum_interval_seconds=10,
    description="Materializes what follows when the data of its inputs changed; an unchanged replay launches nothing.",
)
