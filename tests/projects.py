"""Small real projects for suites that run the pipeline: a few files of the corpus, the offline model, one dataset."""

from __future__ import annotations

import shutil
from pathlib import Path

from refinery.corpus import CorpusReport
from refinery.ingest import stage
from refinery.project import Refinery
from refinery.sources import configured_source

FILES = (
    "blank/black.png",
    "broken/empty.jpg",
    "broken/truncated.png",
    "copies/Kopie von chelsea.png",
    "exif orientation/6.jpg",
    "near duplicates/chelsea cropped by 1 %.jpg",
    "near duplicates/coffee smaller.jpg",
    "写真/猫.jpg",
    "photographs/brick.png",
    "photographs/chelsea.png",
    "photographs/china.jpg",
    "photographs/coffee.png",
    "photographs/coins.png",
    "photographs/flower.jpg",
)
CONFIG = """\
embedder: {kind: efficientnet_lite0}
batch_size: 8
sources:
  - {name: photographs, kind: folder, path: ../pictures}
datasets:
  demo:
    exports:
      - {format: webdataset, size: bucket, side: 128, patch: 16, samples_per_shard: 4}
"""


def copy_pictures(corpus: CorpusReport, folder: Path, files: tuple[str, ...] = FILES) -> Path:
    """A folder of these files of the corpus, with their times."""
    for name in files:
        target = folder / name
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(corpus.folder / name, target)
    return folder


def create_project(corpus: CorpusReport, home: Path, files: tuple[str, ...] = FILES) -> Refinery:
    """A project in `home/project` that watches `home/pictures`; nothing is staged yet."""
    copy_pictures(corpus, home / "pictures", files)
    return Refinery.create(home / "project", CONFIG)


def stage_sources(project: Refinery) -> list[str]:
    """Stage what the sources of the project have that is new; the batches."""
    staged = []
    for settings in project.settings.sources:
        source = configured_source(settings, project.path)
        staged += stage(project.store, project.fields, source, batch_size=project.settings.batch_size)
    return [batch.batch for batch in staged]


def facts_of(project: Refinery) -> dict[str, list[dict[str, object]]]:
    """Every fact of the project by step, as rows."""
    return {name: project.facts.read(step).to_pylist() for name, step in project.steps.by_name().items()}
