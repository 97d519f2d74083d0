"""The loop: a toy model is trained on shards, what it cannot learn is flagged, and the next version is better for it."""

from __future__ import annotations

import json
import re
import shlex
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from refinery.config import FILE_NAME
from refinery.errors import InputError
from refinery.evals import give_feedback, ingest_evals, ingest_feedback
from refinery.export import parse_recipe
from refinery.fields import Field, FieldType
from refinery.filter import parse
from refinery.ingest import ingest
from refinery.ledger import Actor, ActorKind, Selection
from refinery.project import Refinery
from refinery.search import SearchRequest, search
from refinery.sources import open_source
from refinery.states.head import read_head
from refinery.steps.inspect import run_inspect
from tests.test_cli import Cli

LOOP = (Path(__file__).resolve().parent.parent / "docs/loop.md").read_text(encoding="utf-8")
ANA, PROBE = Actor(ActorKind.PERSON, "ana"), Actor(ActorKind.EVAL, "probe")
POLICY = """\
name: toy
requires: [inspect]
rules:
  - {name: eval_failure, hold: "has_flag('eval_failure')"}
  - {name: not_learnt, hold: "eval_probe_loss > 5"}
  - {name: disliked, hold: "feedback_down >= 2"}
"""
TRAINER = """
import json, pathlib, sys, torch, webdataset
torch.set_num_threads(1)
shards = [str(p) for p in sorted(pathlib.Path(sys.argv[1]).glob("*.tar"))]
keys, pixels, labels = [], [], []
for s in webdataset.WebDataset(shards, shardshuffle=False, nodesplitter=None).decode("torchrgb"):
    keys.append(s["__key__"]), pixels.append(s["png"].mean(dim=(1, 2))), labels.append(s["json"]["label"])
x, y = torch.stack(pixels) - 0.5, torch.tensor(labels, dtype=torch.float32)
weight, bias = torch.zeros(3, requires_grad=True), torch.zeros(1, requires_grad=True)
optimizer = torch.optim.SGD([weight, bias], lr=5.0)
loss_of = torch.nn.functional.binary_cross_entropy_with_logits
for _ in range(400):
    optimizer.zero_grad()
    loss_of(x @ weight + bias, y).backward()
    optimizer.step()
held_out = torch.tensor([[0.3, 0.0, -0.3], [-0.3, 0.0, 0.3]])
with torch.no_grad():
    losses = loss_of(x @ weight + bias, y, reduction="none").tolist()
    metric = loss_of(held_out @ weight + bias, torch.tensor([1.0, 0.0])).item()
with open(sys.argv[2], "w") as file:
    file.writelines(json.dumps({"sample_id": k, "loss": v}) + "\\n" for k, v in zip(keys, losses))
print(metric)
"""
PICTURES, WRONG, BROKEN = 40, 8, 2


@pytest.fixture
def project(tmp_path: Path) -> Refinery:
    """Pictures of red and of blue noise, labelled 1 and 0; the first ones have the wrong label, the last are broken."""
    rng, folder = np.random.default_rng(0), tmp_path / "pictures"
    folder.mkdir()
    rows = []
    for n in range(PICTURES + BROKEN):
        red = n % 2
        tint = np.array([80, 0, -80] if red else [-80, 0, 80])
        noise = rng.integers(88, 168, size=(32, 32, 3))
        path = folder / f"{n}.png"
        Image.fromarray((noise + tint).astype(np.uint8)).save(path)
        if n >= PICTURES:
            path.write_bytes(path.read_bytes()[:400])
        rows.append({"path": path.name, "label": 1 - red if n < WRONG else red})
    (folder / "labels.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    config = "embedder: {kind: efficientnet_lite0}\nflag_kinds: [eval_failure]\n"
    project = Refinery.create(tmp_path / "project", config)
    for field in (
        Field("label", FieldType.INTEGER),
        Field("eval_probe_loss", FieldType.NUMBER),
        Field("feedback_down", FieldType.INTEGER),
    ):
        project.register_field(field, ANA)
    (project.path / "policy.yaml").write_text(POLICY)
    source = open_source(folder / "labels.jsonl", name="toy", kind="manifest")
    ingest(project.store, project.fields, source, batch_size=100, max_bytes=1 << 20)
    for batch in project.batches.landed():
        run_inspect(project.store, batch, project.settings.inspect)
    project.replay()
    return project


def matching(project: Refinery, where: str) -> list[str]:
    documents = project.projector.documents()
    mask = parse(where, project.fields).mask(documents)
    return [i for i, fits in zip(documents["sample_id"].to_pylist(), mask, strict=True) if fits]


def train(project: Refinery, ref: str, results: Path) -> float:
    """Export a snapshot, train on its shards, write a loss per sample; the model's loss on pictures it never saw."""
    recipe = parse_recipe({"format": "webdataset", "size": "fixed", "side": 32, "encode": "png"})
    report = project.exporter.export(project.snapshots.get(ref), recipe)
    shards = project.path / "store" / report.prefix
    done = subprocess.run(
        [sys.executable, "-c", TRAINER, str(shards), str(results)],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return float(done.stdout)


def test_what_a_model_cannot_learn_is_flagged_and_the_next_version_trains_a_better_one(
    project: Refinery, tmp_path: Path
) -> None:
    wrong = set(matching(project, "verdict = 'gold'")) & {
        o["sample_id"] for o in project.batches.origins().to_pylist() if int(Path(o["uri"]).stem) < WRONG
    }
    first, _ = project.freeze("toy")
    assert (first.count, len(wrong)) == (PICTURES, WRONG)
    before = train(project, "toy@1", tmp_path / "losses.jsonl")

    taken = ingest_evals(project, tmp_path / "losses.jsonl", name="probe", run="1", model="linear probe")
    assert (taken.found, taken.added, taken.fields) == (PICTURES, PICTURES, ["eval_probe_loss"])
    project.replay()
    assert project.freeze("toy") == (first, False), "a result alone moves nobody and changes no row"
    failures = matching(project, "eval_probe_loss > 0.7")
    assert set(failures) == wrong
    project.flag(failures, "eval_failure", PROBE, reason="loss over 0.7 in run 1")

    report = project.replay()
    assert (report.evaluated, report.changed, report.flips) == (WRONG, WRONG, {"gold → held": WRONG})
    second, new = project.freeze("toy")
    assert (new, second.count) == (True, PICTURES - WRONG)
    diff = project.diff("toy@1", "toy@2")
    assert set(diff.ids("removed")) == wrong
    assert diff.causes == {"event": WRONG}
    assert all("eval probe: loss over 0.7 in run 1" in move.sentence for move in diff.moves)
    assert train(project, "toy@2", tmp_path / "again.jsonl") < before / 2

    project.undo(ANA, selection=Selection(actor=PROBE, kind="eval_failure"))
    project.replay()
    assert project.freeze("toy")[0].root == first.root


def write(path: Path, rows: list[dict[str, Any]]) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def test_every_cell_of_a_file_of_results_is_accounted_for_and_a_second_time_adds_nothing(
    project: Refinery, tmp_path: Path
) -> None:
    a, b, c = matching(project, "verdict = 'gold'")[:3]
    rows = [
        {"sample_id": a, "loss": 0.25, "right": True},
        {"sample_id": a, "loss": 0.25, "right": True},
        {"sample_id": b, "loss": float("nan"), "right": False},
        {"__key__": c, "loss": None},
        {"sample_id": "0" * 64, "loss": 1.0, "right": True},
        {"sample_id": "cat.jpg", "loss": 1.0, "right": True},
    ]
    path = write(tmp_path / "r.jsonl", rows)
    taken = ingest_evals(project, path, name="probe", run="1")
    assert (taken.rows, taken.found, taken.added, taken.repeated) == (6, 12, 3, 2)
    assert (taken.known, taken.empty, taken.unfit, taken.unknown) == (0, 2, 1, 4)
    assert taken.unknown_samples == ["0" * 64, "cat.jpg"]
    assert len({event.group for event in taken.events}) == 1
    offset = project.ledger.offset
    again = ingest_evals(project, path, name="probe", run="1")
    assert (again.added, again.known, again.repeated) == (0, 5, 0)
    assert project.ledger.offset == offset
    assert matching(project, "eval_probe_loss < 0.5 AND eval_probe_right") == [a]
    assert matching(project, "NOT eval_probe_right") == [b]
    write(path, [{"sample_id": a, "loss": 0.5}])
    with pytest.raises(InputError) as error:
        ingest_evals(project, path, name="probe", run="1")
    assert error.value.kind == "conflicting_results"
    assert project.ledger.offset == offset
    ingest_evals(project, path, name="probe", run="2")
    assert matching(project, "eval_probe_loss = 0.5") == [a]


def test_csv_and_parquet_say_the_same_as_json_lines(project: Refinery, tmp_path: Path) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    ids = matching(project, "verdict = 'gold'")[:2]
    rows = [{"sample_id": i, "loss": 0.5 + n, "seen": n == 0, "said": f"cat {n}"} for n, i in enumerate(ids)]
    write(tmp_path / "r.jsonl", rows)
    pq.write_table(pa.Table.from_pylist(rows), tmp_path / "r.parquet")
    lines = [",".join(rows[0]), *(",".join(map(str, row.values())) for row in rows)]
    (tmp_path / "r.csv").write_text("\n".join(lines) + "\n")
    first = ingest_evals(project, tmp_path / "r.jsonl", name="probe", run="1")
    assert first.added == 6
    for name in ("r.csv", "r.parquet"):
        assert ingest_evals(project, tmp_path / name, name="probe", run="1").known == 6
    types = {name: project.fields[name].type.value for name in first.fields}
    assert types == {"eval_probe_loss": "number", "eval_probe_seen": "boolean", "eval_probe_said": "string"}


def test_a_rule_on_a_result_holds_a_sample_explain_names_the_eval_and_undo_lets_it_go(
    project: Refinery, tmp_path: Path
) -> None:
    a = matching(project, "verdict = 'gold'")[0]
    head, _ = read_head(project.store)
    ingest_evals(project, write(tmp_path / "r.jsonl", [{"sample_id": a, "loss": 9}]), name="probe", run="1")
    report = project.replay()
    assert (report.evaluated, report.flips) == (1, {"gold → held": 1})
    explained = project.explain(a)
    assert explained.reasons == ["not_learnt"]
    assert "eval probe/loss = 9.0 by eval probe: run 1" in explained.because
    assert project.replay().root == project.replay(full=True).root
    project.undo(ANA)
    assert project.replay().root == head.root


def test_feedback_is_counted_by_kind_and_taken_in_once(project: Refinery, tmp_path: Path) -> None:
    a, b = matching(project, "verdict = 'gold'")[:2]
    rows = [
        {"sample_id": a, "kind": "down", "user": "u1", "reason": "six fingers"},
        {"sample_id": a, "kind": "down", "user": "u2"},
        {"sample_id": b, "kind": "down", "id": "7"},
        {"sample_id": "0" * 64, "kind": "down"},
        {"sample_id": b, "kind": ""},
    ]
    path = write(tmp_path / "f.jsonl", rows)
    taken = ingest_feedback(project, path, source="app")
    assert (taken.found, taken.added, taken.unknown, taken.empty) == (5, 3, 1, 1)
    assert ingest_feedback(project, path, source="app").known == 3
    assert matching(project, "feedback_down >= 1") == sorted([a, b])
    assert project.replay().flips == {"gold → held": 1}
    give_feedback(project, [b], "down", Actor(ActorKind.USER, "u3"), reason="blurred")
    assert project.replay().flips == {"gold → held": 1}
    assert matching(project, "has_flag('eval_failure')") == []
    with pytest.raises(InputError, match="never ingested"):
        give_feedback(project, ["0" * 64], "down", ANA)


@pytest.mark.parametrize(
    ("name", "text", "kind"),
    [
        ("r.txt", "", "bad_results"),
        ("r.csv", "path,loss\na,1\n", "bad_results"),
        ("r.csv", "sample_id,loss\na\n", "bad_results"),
        ("r.jsonl", "[1]\n", "bad_results"),
        ("r.jsonl", "{", "bad_results"),
        ("r.parquet", "no", "bad_results"),
        ("none.csv", None, "no_such_file"),
        ("r.csv", "sample_id,Top 1\na,1\n", "bad_name"),
    ],
)
def test_a_file_that_holds_no_results_is_refused_whole(
    project: Refinery, tmp_path: Path, name: str, text: str | None, kind: str
) -> None:
    if text is not None:
        (tmp_path / name).write_text(text)
    offset = project.ledger.offset
    with pytest.raises(InputError) as error:
        ingest_evals(project, tmp_path / name, name="probe", run="1")
    assert (error.value.kind, project.ledger.offset) == (kind, offset)


def test_two_metrics_never_share_a_field(project: Refinery, tmp_path: Path) -> None:
    a = matching(project, "verdict = 'gold'")[0]
    ingest_evals(project, write(tmp_path / "r.jsonl", [{"sample_id": a, "b_c": 1}]), name="a", run="1")
    with pytest.raises(InputError, match="a/b_c"):
        ingest_evals(project, write(tmp_path / "r.jsonl", [{"sample_id": a, "c": 1}]), name="a-b", run="1")


def test_results_are_searchable_as_soon_as_they_are_taken_in_and_gone_when_undone(
    refined: Path, tmp_path: Path
) -> None:
    project = Refinery.open(refined)
    project.register_field(Field("eval_probe_loss", FieldType.NUMBER), ANA)
    project.replay()
    project.project()
    a, b = matching(project, "verdict = 'gold'")[:2]
    rows = [{"sample_id": a, "loss": 3.0}, {"sample_id": b, "loss": 1.0}]

    def indexed() -> list[str]:
        report = project.projector.follow_ledger()
        assert report is not None
        assert report.upserted == 2
        request = SearchRequest(filter="eval_probe_loss > 0", sort="-eval_probe_loss")
        return [hit.sample_id for hit in search(project.index, project.fields, request).hits]

    ingest_evals(project, write(tmp_path / "r.jsonl", rows), name="probe", run="1")
    assert indexed() == [a, b]
    project.undo(ANA)
    assert indexed() == []


def test_the_commands_of_the_loop_work_in_order(
    capsys: pytest.CaptureFixture[str], refined: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config, rule = re.findall(r"^```yaml\n(.*?)^```$", LOOP, re.MULTILINE | re.DOTALL)
    with (refined / FILE_NAME).open("a") as file:
        file.write(config)
    with (refined / "policy.yaml").open("a") as file:
        file.write(rule)
    cli = Cli(capsys, refined)
    monkeypatch.chdir(tmp_path)
    gold = cli("search", "--where", "verdict = 'gold' AND cluster IS NULL", "--limit", "9", "--ids")[
        0
    ].split()
    rows = [{"sample_id": i, "loss": float(n)} for n, i in enumerate(gold)]
    write(tmp_path / "losses.jsonl", rows)
    write(tmp_path / "votes.jsonl", [{"sample_id": gold[0], "kind": "down"}])
    said = ""
    for block in re.findall(r"^```sh\n(.*?)^```$", LOOP, re.MULTILINE | re.DOTALL):
        for command in block.splitlines():
            program, *words = shlex.split(command)
            assert program == "refinery"
            said += cli(*words)[0]
    failed = sum(row["loss"] > 2 for row in rows)
    assert f"train@1 → train@2  0 added, {failed} removed, 0 changed" in said
    assert "eval probe: loss over 2 in run 1" in said
