"""Links between Dagster and the viewer."""

from __future__ import annotations

from pathlib import Path
from urllib.parse import parse_qsl, urlsplit

import pytest

from refinery.errors import ConfigError
from refinery.links import asset_link, batch_link, sample_link, snapshot_link, viewer_link
from tests.test_viewer_app import run, tab
from ui.core import Screen, Viewer

SAMPLE = "ab" * 32


def screen(link: str) -> Screen:
    """The screen that the viewer shows at a link."""
    return Screen.from_params(dict(parse_qsl(urlsplit(link).query)))


def test_links_into_the_viewer_are_screens_of_the_viewer() -> None:
    assert screen(sample_link(SAMPLE)) == Screen(sample=SAMPLE)
    assert screen(snapshot_link("gold@2")) == Screen(page="snapshots", ref="gold@2")
    assert screen(batch_link("it's & more")) == Screen(where="batch = 'it''s & more'")


def test_the_viewer_is_where_the_environment_says(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("REFINERY_VIEWER_URL", raising=False)
    assert viewer_link() == "http://127.0.0.1:8501/"
    monkeypatch.setenv("REFINERY_VIEWER_URL", "https://curation.example/refinery/")
    assert sample_link(SAMPLE) == f"https://curation.example/refinery/?sample={SAMPLE}"


def test_a_link_to_dagster_is_there_only_when_its_address_is_known() -> None:
    assert asset_link("inspected", "b1", {}) is None
    known = {"REFINERY_DAGSTER_URL": "http://127.0.0.1:3000"}
    assert asset_link("inspected", "b/1 &c", known) == (
        "http://127.0.0.1:3000/assets/inspected?view=partitions&partition=b%2F1+%26c"
    )
    assert asset_link("verdicts", environment=known) == "http://127.0.0.1:3000/assets/verdicts?view=events"


@pytest.mark.parametrize("address", ["javascript:alert(1)", "127.0.0.1:3000", "http://", "http://h/?a=b"])
def test_an_address_that_is_none_is_refused(address: str) -> None:
    with pytest.raises(ConfigError, match="REFINERY_DAGSTER_URL"):
        asset_link("verdicts", environment={"REFINERY_DAGSTER_URL": address})


def test_a_sample_leads_to_the_runs_of_its_batches_when_dagster_has_an_address(
    monkeypatch: pytest.MonkeyPatch, refined_folder: Path
) -> None:
    viewer = Viewer.open(refined_folder)
    sample = viewer.browse(Screen(verdict="gold")).hits[0].sample_id
    monkeypatch.delenv("REFINERY_DAGSTER_URL", raising=False)
    assert not run(monkeypatch, refined_folder, sample=sample).link_button
    monkeypatch.setenv("REFINERY_DAGSTER_URL", "http://127.0.0.1:3000")
    app = run(monkeypatch, refined_folder, sample=sample)
    links = {button.url for name in ("Facts", "Origins") for button in tab(app, name).link_button}
    batch = viewer.explain(sample).origins[0]["batch"]
    assert links >= {
        f"http://127.0.0.1:3000/assets/{asset}?view=partitions&partition={batch}"
        for asset in ("raw_samples", "inspected", "embeddings")
    }
