"""Back from training: per-sample eval results and user feedback become ledger events, and fields one can ask for."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Collection, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from refinery.digests import digest_json
from refinery.errors import InputError
from refinery.evals.results import eval_field, feedback_field
from refinery.evals.tables import KEYS, key_of, read_rows
from refinery.fields import Field, FieldType, coerce
from refinery.ledger import Actor, ActorKind, Event, eval_event, feedback_event

if TYPE_CHECKING:
    from refinery.project import Refinery

_WORD = re.compile(r"[a-z][a-z0-9_-]{0,30}\Z")
_HOLDS = (FieldType.NUMBER, FieldType.INTEGER, FieldType.BOOLEAN, FieldType.STRING, FieldType.TEXT)
_FEEDBACK = ("kind", "value", "reason", "user", "id")


@dataclass(frozen=True, slots=True)
class TakenIn:
    """What taking in a file came to. Every cell (eval: of each row and metric) or row (feedback) counts once:
    `found` = `added` + `known` (the ledger had it) + `repeated` (in the file) + `empty` + `unfit` + `unknown` (of a sample
    that was never ingested). `fields` are those that hold the results; `events` those that stand for what was found."""

    actor: Actor
    rows: int
    found: int
    added: int
    known: int
    repeated: int
    empty: int
    unfit: int
    unknown: int
    unknown_samples: list[str]
    fields: list[str]
    events: list[Event] = field(repr=False)

    def to_json(self) -> dict[str, Any]:
        """The report as a JSON object, without its events."""
        raw = asdict(replace(self, events=[])) | {"actor": str(self.actor)}
        del raw["events"]
        return raw


def ingest_evals(
    project: Refinery,
    path: Path,
    *,
    name: str,
    run: str,
    metrics: Collection[str] = (),
    model: str | None = None,
) -> TakenIn:
    """Take in the results of one run of the eval `name`, as one act: a row for each sample, a column for each metric (all
    columns, or `metrics`). Repeating a run's file adds nothing.

    The metric of the column `loss` is `name/loss` and its field `eval_<name>_loss`, which is registered if need be: a
    number, a boolean or an outcome. InputError when the file is none, has no such column, or says something else
    than this run said before.
    """
    _check_name("an eval", name)
    rows = read_rows(path)
    columns = list(dict.fromkeys(c for row in rows for c in row if c not in KEYS))
    if lacking := sorted(set(metrics) - set(columns)):
        raise InputError(
            f"{path} has no column {lacking[0]!r}: it has {', '.join(map(repr, columns))}.",
            kind="no_such_metric",
        )
    chosen = [c for c in columns if not metrics or c in metrics]
    for column in chosen:
        _check_name("a metric (choose columns with --metric)", column)
    wanted = {column: _field(project, name, column, [row.get(column) for row in rows]) for column in chosen}
    seen = project.samples.seen({key_of(row) for row in rows})
    actor = Actor(ActorKind.EVAL, name)
    evidence = {"run": run, **({"model": model} if model else {})}
    sieve = _Sieve(project, seen)
    for row in rows:
        for column in chosen:
            value = _fitted(wanted[column], row.get(column))
            if not sieve.takes(key_of(row), value):
                continue
            event = eval_event(
                key_of(row), f"{name}/{column}", value, actor, evidence=evidence, reason=f"run {run}"
            )
            sieve.add(replace(event, id=digest_json(["eval", name, run, column, event.sample_id])[:32]))
    return sieve.append(actor, len(rows), len(rows) * len(chosen), list(wanted.values()))


def ingest_feedback(project: Refinery, path: Path, *, source: str) -> TakenIn:
    """Take in feedback from the service `source`, as one act: rows with `kind` (such as `up` or `down`) and perhaps `value`,
    `reason`, `user` and `id`. A row with a known id, or one that says what another says, adds nothing.

    `feedback_<kind>`, how often a kind stands on a sample, is registered if need be. InputError when the file is none.
    """
    _check_name("a source of feedback", source)
    rows = read_rows(path)
    for number, row in enumerate(rows, 1):
        if extra := sorted(set(row) - {*KEYS, *_FEEDBACK}):
            raise InputError(
                f"{path}: row {number} has the member {extra[0]!r}. Feedback has {', '.join((KEYS[0], *_FEEDBACK))}.",
                kind="bad_results",
            )
    sieve = _Sieve(project, project.samples.seen({key_of(row) for row in rows}))
    kinds: dict[str, Field] = {}
    for row in rows:
        kind = row.get("kind")
        fits = isinstance(row.get("value"), str | int | float | None) and row.get("value") == row.get("value")
        if not sieve.takes(key_of(row), (kind or None) if fits else _UNFIT):
            continue
        said = {k: row[k] for k in _FEEDBACK if row.get(k) not in (None, "")}
        actor = Actor(ActorKind.USER, str(said.get("user", source)))
        reason = None if "reason" not in said else str(said["reason"])
        event = feedback_event(
            key_of(row), str(kind), actor, value=said.get("value"), reason=reason, evidence={"source": source}
        )
        kinds.setdefault(str(kind), _feedback_count(str(kind)))
        name = said.get("id", [event.sample_id, said])
        sieve.add(replace(event, id=digest_json(["feedback", source, name])[:32]))
    return sieve.append(Actor(ActorKind.USER, source), len(rows), len(rows), list(kinds.values()))


def give_feedback(
    project: Refinery, sample_ids: Sequence[str], kind: str, actor: Actor, **said: Any
) -> list[Event]:
    """Stand feedback (`value`, `reason`) on samples, all or none. InputError for a sample that was never ingested."""
    project.samples.check_seen(sample_ids)
    events = [feedback_event(i, kind, actor, **said) for i in sample_ids]
    _register(project, [_feedback_count(kind)], actor)
    return project.ledger.append(events)


class _Sieve:
    """Sorts what a file says into what is added and what is not, and why."""

    def __init__(self, project: Refinery, seen: Collection[str]) -> None:
        self._project, self._seen, self._said = project, seen, project.ledger.view()
        self._counts: Counter[str] = Counter()
        self._events: dict[str, Event] = {}
        self._unknown: dict[str, None] = {}

    def takes(self, sample_id: str, value: Any) -> bool:
        """Whether there is anything to add; counts it otherwise."""
        if sample_id not in self._seen:
            self._counts["unknown"] += 1
            self._unknown[sample_id] = None
        elif value is None or value is _UNFIT:
            self._counts["empty" if value is None else "unfit"] += 1
        else:
            return True
        return False

    def add(self, event: Event) -> None:
        """Add an event. InputError when the file or the ledger says something else under the same id."""
        twin = self._events.get(event.id)
        before = twin or self._said.get(event.id)
        if before is None:
            self._events[event.id] = event
            return
        if (before.sample_id, before.kind, before.value) != (event.sample_id, event.kind, event.value):
            raise InputError(
                f"Sample {event.sample_id}: {event.kind} is {event.value!r}, but {before.value!r} was said before under the "
                f"same {'run' if before.actor.kind is ActorKind.EVAL else 'id'}. Give another one, or mend the file.",
                kind="conflicting_results",
            )
        self._counts["repeated" if twin else "known"] += 1

    def append(self, actor: Actor, rows: int, found: int, fields: list[Field]) -> TakenIn:
        """Register the fields and append the events, as one act."""
        _register(self._project, fields, actor)
        events = self._project.ledger.append(self._events.values()) if self._events else []
        counts = {name: self._counts[name] for name in ("known", "repeated", "empty", "unfit", "unknown")}
        return TakenIn(
            actor,
            rows,
            found,
            added=len(events),
            **counts,
            unknown_samples=sorted(self._unknown),
            fields=sorted(f.name for f in fields),
            events=events,
        )


_UNFIT = object()


def _field(project: Refinery, name: str, column: str, values: list[Any]) -> Field:
    """The field that holds a metric: the registered one, or one of the type that its values have."""
    metric = f"{name}/{column}"
    named = eval_field(metric)
    said = f"Metric {metric} of an eval."
    known = project.fields
    if named in known:
        found = known[named]
        if found.description.startswith("Metric ") and found.description != said:
            raise InputError(
                f"Field {named!r} holds another metric ({found.description}): call the eval or the column otherwise.",
                kind="field_exists",
            )
        if found.type not in _HOLDS:
            raise InputError(
                f"Field {named!r} is a {found.type.value}, which holds no result: call the eval or the column otherwise.",
                kind="field_exists",
            )
        return found
    kinds = {type(_plain(v)) for v in values if v not in (None, "")}
    kind = FieldType.STRING
    if kinds and kinds <= {int, float}:
        kind = FieldType.NUMBER
    elif kinds == {bool}:
        kind = FieldType.BOOLEAN
    return Field(named, kind, said)


def _plain(value: Any) -> Any:
    """A cell as what it says: CSV has texts only."""
    if not isinstance(value, str):
        return value
    if value.strip().lower() in ("true", "false"):
        return value.strip().lower() == "true"
    try:
        return float(value)
    except ValueError:
        return value


def _fitted(field: Field, value: Any) -> Any:
    """A cell as the field holds it; None when it is empty, `_UNFIT` when it does not fit."""
    try:
        fitted = coerce(field, value)
        return _UNFIT if isinstance(fitted, str) and len(fitted) > 200 else fitted
    except InputError:
        return _UNFIT


def _feedback_count(kind: str) -> Field:
    return Field(
        feedback_field(kind), FieldType.INTEGER, f"How often feedback of the kind {kind} stands on it."
    )


def _register(project: Refinery, fields: Sequence[Field], actor: Actor) -> None:
    for each in fields:
        if each.name not in project.fields:
            project.register_field(each, actor)


def _check_name(what: str, name: str) -> None:
    if not _WORD.match(name):
        raise InputError(
            f"{name!r} cannot name {what}: lower-case letters, digits, - and _ only, a letter first, at most 31.",
            kind="bad_name",
        )
