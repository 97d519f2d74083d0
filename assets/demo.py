"""`make demo`: real photographs through bronze, silver and gold, twice frozen, exported in all three shard formats.

Everything it does is idempotent: a second run ingests nothing, recomputes no fact and ends with the same roots, and says so.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
from pathlib import Path
from typing import Any

import yaml
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from assets.run import RunReport, run
from assets.twin import sections
from refinery.config import FILE_NAME, LocalStoreSettings
from refinery.contact_sheet import draw_contact_sheet
from refinery.corpus import build_corpus
from refinery.digests import digest
from refinery.ingest import stage
from refinery.ledger import Actor, ActorKind, Event, EventType
from refinery.progress import RichProgress
from refinery.project import Refinery
from refinery.sources import open_source

ANA = Actor(ActorKind.PERSON, "ana")
CRITIC = Actor(ActorKind.MODEL, "demo-critic")

CONFIG = """\
# The demo's project. The embedder is the offline image model: similar-image search works, search by words needs a
# model with a text tower (see README, "Which model embeds").
embedder: {kind: efficientnet_lite0}
sources:
  - {name: photographs, kind: folder, path: pictures}
datasets:
  demo:
    exports:
      - {format: webdataset, size: bucket, side: 256, patch: 16, samples_per_shard: 32}
      - {format: mds, size: bucket, side: 256, patch: 16, samples_per_shard: 32}
      - {format: parquet, size: bytes, samples_per_shard: 32}
"""


def main() -> None:
    """Make, or bring up to date, the demo's project, and print one readable summary."""
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("--project", type=Path, default=Path("demo"))
    parser.add_argument("--size", choices=("small", "full"), default="full")
    parser.add_argument(
        "--backend", choices=("embedded", "real"), default="embedded", help="real: S3 and OpenSearch"
    )
    options = parser.parse_args()
    console = Console(highlight=False, soft_wrap=True)
    home = options.project.absolute()
    console.rule("refinery demo")
    corpus = build_corpus(home / "pictures", size=options.size)
    console.print(
        f"{len(corpus.files)} files of real photographs and honest derived cases in {escape(str(home / 'pictures'))}"
    )
    if (home / FILE_NAME).exists():
        project = Refinery.open(home)
    elif options.backend == "embedded":
        project = Refinery.create(home, CONFIG)
    else:
        project = Refinery.create(home, CONFIG + yaml.safe_dump(sections(home, os.environ), sort_keys=False))
    before = _read(home / "summary.json")
    source = open_source(home / "pictures", name="photographs", kind="folder")
    stage(project.store, project.fields, source, batch_size=project.settings.batch_size)
    first = run(project, progress=RichProgress)
    flagged = _flag_a_few(project)
    second = run(project, progress=RichProgress)
    sheet = home / "contact-sheet.png"
    draw_contact_sheet(project.store, project.facts, project.steps, sheet)
    summary = _summary(project)
    (home / "summary.json").write_text(json.dumps(summary, indent=1), encoding="utf-8")
    _print(console, project, [first, second], flagged, summary, before, sheet)
    if before and _inputs(before) == _inputs(summary) and before["roots"] != summary["roots"]:
        sys.exit(
            "The roots differ from those of the run before, of the same ledger and policy: that must not be."
        )


def _flag_a_few(project: Refinery) -> list[Event]:
    """A person and a model judge a few samples of demo@1. The events' ids follow from what they say, so that they are
    appended once and for all."""
    gold = project.snapshots.rows(project.snapshots.get("demo@1"))["sample_id"].to_pylist()
    state = project.replayer.trees.rows(project.snapshots.get("demo@1").state_node).to_pylist()
    blurry = [r["sample_id"] for r in state if r["reasons"] == ["blurry"]]
    acts = [
        (gold[0], "reject", ANA, "a logo in the corner"),
        (gold[len(gold) // 3], "reject", CRITIC, "aesthetic score 0.12"),
        (gold[-1], "blocked", ANA, "takedown request 17"),
        *((i, "keep", ANA, "the blur is intended") for i in blurry[:1]),
    ]
    events = []
    for sample_id, kind, actor, reason in acts:
        event_id = digest(f"demo {sample_id} {kind} {reason}".encode())[:32]
        events.append(
            Event(EventType.FLAG, actor, sample_id=sample_id, kind=kind, reason=reason, id=event_id)
        )
    return project.ledger.append(events)


def _summary(project: Refinery) -> dict[str, Any]:
    snapshots = [s for s in project.snapshots.all() if s.name == "demo"]
    exports = [index for s in snapshots for index in project.exporter.exports(s)]
    return {
        "status": project.status().to_json(),
        "roots": {
            "state": project.status().root,
            **{s.ref: s.root for s in snapshots},
            **{i["prefix"]: digest(json.dumps(i["files"], sort_keys=True).encode()) for i in exports},
        },
        "exports": [{k: i[k] for k in ("prefix", "samples", "bytes", "buckets")} for i in exports],
    }


def _inputs(summary: dict[str, Any]) -> list[Any]:
    """What the roots are a function of, as far as a person may have changed it between two runs."""
    return [summary["status"][name] for name in ("seen", "ledger_offset", "policy")]


def _print(
    console: Console,
    project: Refinery,
    reports: list[RunReport],
    flagged: list[Event],
    summary: dict[str, Any],
    before: dict[str, Any] | None,
    sheet: Path,
) -> None:
    status = summary["status"]
    console.rule("what happened")
    for report in reports:
        for line in report.lines():
            console.print(escape(line))
    console.rule("accounting")
    held_total = status["held_total"]
    console.print(
        f"{status['seen']} seen = {status['gold']} gold + {held_total} held + {status['pending']} pending",
        style="bold",
    )
    table = Table("held because", "samples", box=None)
    for reason, count in sorted(status["held"].items(), key=lambda item: -item[1]):
        table.add_row(reason.replace("_", " "), str(count))
    console.print(table)
    console.rule("who said what")
    for event in flagged:
        console.print(escape(f"{event.sample_id[:12] if event.sample_id else ''}  {event.describe()}"))
    if len(project.snapshots.all()) > 1:
        console.rule("demo@1 → demo@2, with causes")
        for move in project.diff("demo@1", "demo@2").moves:
            console.print(escape(f"{move.how:8} {move.sample_id[:12]}  {move.cause}: {move.sentence}"))
    console.rule("shards")
    for export in summary["exports"]:
        console.print(
            escape(
                f"{export['samples']} samples, {export['bytes'] / 1e6:.1f} MB  {project.store.url}/{export['prefix']}"
            )
        )
    console.rule("again")
    if before is None:
        console.print("First run. `make demo` again recomputes nothing and ends with the same roots.")
    else:
        computed = sum(r.facts_computed for r in reports)
        same = "the same as before" if before["roots"] == summary["roots"] else "DIFFERENT FROM BEFORE"
        console.print(
            f"{computed} facts recomputed; roots are {same}: state {status['root'][:16]}", style="bold"
        )
    console.rule("next")
    console.print(f"look at   {escape(str(sheet))}")
    sample_id = flagged[0].sample_id or ""
    embedded = isinstance(project.settings.store, LocalStoreSettings)
    if not embedded:
        data = escape(_relative(project.path / ".servers"))
        console.print(
            f"servers   .venv/bin/python -m deploy.services up --data {data}      (in a terminal of its own)"
        )
        console.print(f"          set -a; . {data}/environment; set +a      (here, before the next)")
    for command in (
        "status",
        f"explain {sample_id[:12]}",
        f"search --like {sample_id[:12]} --limit 5",
        "snapshot diff demo@1 demo@2",
    ):
        console.print(f"try       .venv/bin/refinery --project {escape(_relative(project.path))} {command}")
    backend = "" if embedded else " BACKEND=real"
    console.print(f"see       make up{backend}      (the Dagster UI of this project)")


def _relative(path: Path) -> str:
    return str(path.relative_to(Path.cwd())) if path.is_relative_to(Path.cwd()) else str(path)


def _read(path: Path) -> dict[str, Any] | None:
    if not path.exists():
        return None
    found: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return found


if __name__ == "__main__":
    main()
