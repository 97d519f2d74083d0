"""A project: a folder with `refinery.yaml`, and everything one can do with it."""

from __future__ import annotations

import getpass
import tempfile
from collections.abc import Iterator, Sequence
from datetime import timedelta
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from refinery import accounting, asof
from refinery.backends import open_index, open_store
from refinery.batches import Batches
from refinery.config import FILE_NAME, Settings, load_settings
from refinery.diffs import Differ, SnapshotDiff
from refinery.digests import digest
from refinery.documents import DocumentBuilder
from refinery.errors import CorruptionError, InputError, RefineryError
from refinery.explain import Explainer, Explanation
from refinery.export import Exporter
from refinery.export_check import ExportCheck
from refinery.facts import FactStore
from refinery.fields import Field, Fields, FieldType, check_attribute
from refinery.inputs import Steps
from refinery.ledger import Actor, ActorKind, Event, EventType, Ledger, Selection, flag_event, tag_event
from refinery.ledger.selection import select
from refinery.policy import DEFAULT_POLICY, Policy, load_policy
from refinery.projection import ProjectionReport, Projector
from refinery.recent import Recent
from refinery.records import PROGRAM, record_policy
from refinery.removal import Removal
from refinery.replay import Replayer, ReplayReport
from refinery.samples import Samples
from refinery.snapshots import Snapshot, Snapshots
from refinery.states.proofs import Proof, prove
from refinery.states.tree import StateTrees
from refinery.views import Views
from refinery.whatif import UndoPreview, preview_undo

if TYPE_CHECKING:
    from refinery.cards import Card
    from refinery.embedders import Embedder
    from refinery.gates import GateReport
    from refinery.gc import Garbage
    from refinery.index import SampleIndex
    from refinery.propagation import Propagator
    from refinery.splits import Splits
    from refinery.takedown import Takedown

STANDARD_ATTRIBUTES = (
    Field("caption", FieldType.TEXT, "What the picture shows, in words."),
    Field("licence", FieldType.STRING, "The licence it may be used under."),
    Field("author", FieldType.STRING, "Who made it."),
)


class Refinery:
    """An open project. Opening is cheap: servers, models and the index are reached for when first needed."""

    def __init__(self, path: Path, settings: Settings, s3: Any = None) -> None:
        self.path = Path(path).absolute()
        self.settings = settings
        self.store = open_store(settings, self.path, s3)
        self.ledger = Ledger(self.store)
        self.batches = Batches(self.store)
        self.samples = Samples(self.store, self.batches)
        self.facts = FactStore(self.store)
        self.snapshots = Snapshots(self.store, self.ledger)
        self.exporter = Exporter(self.store, self.snapshots)
        self._unmet: Recent[int] = Recent(16, lambda _: 1)

    @classmethod
    def open(cls, path: Path | str = ".", s3: Any = None) -> Refinery:
        """Open the project in a folder. ConfigError when it has no (valid) refinery.yaml.

        `s3` is a boto3 client for its store, in place of one made from the settings.
        """
        return cls(Path(path), load_settings(Path(path)), s3)

    @classmethod
    def create(cls, path: Path | str, config: str) -> Refinery:
        """Make a folder a project: write refinery.yaml and policy.yaml, register the standard attributes.

        InputError when it is one already. When its store cannot be written it is no project yet.
        """
        folder = Path(path)
        if (folder / FILE_NAME).exists():
            raise InputError(
                f"{folder} is a refinery project already: it has a {FILE_NAME}.", kind="project_exists"
            )
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "policy.yaml").write_text(DEFAULT_POLICY, encoding="utf-8")
        (folder / FILE_NAME).write_text(config, encoding="utf-8")
        try:
            project = cls.open(folder)
            for field in STANDARD_ATTRIBUTES:
                if field.name not in project.fields:
                    project.register_field(field, Actor(ActorKind.RULE, "init"))
        except RefineryError:  # such as a bucket that is not there: what is mended can be tried again
            (folder / FILE_NAME).unlink()
            raise
        return project

    # What a project is made of

    @property
    def fields(self) -> Fields:
        """The built-in fields and the attributes registered so far."""
        return Fields(self.ledger.view().registered_fields())

    @property
    def views(self) -> Views:
        """The saved queries."""
        return Views(self.ledger, lambda: self.fields)

    @property
    def policy(self) -> Policy:
        """The policy in force, read anew at each call."""
        return self._policy(self.fields)

    def embedder(self, space: str = "default") -> Embedder:
        """The model of an embedding space. InputError for an unknown space."""
        if space not in self._embedders:
            raise InputError(
                f"There is no embedding space {space!r}: there are {', '.join(self._embedders)}.",
                kind="no_such_space",
            )
        return self._embedders[space]

    @cached_property
    def _embedders(self) -> dict[str, Embedder]:
        from refinery.embedders import make_embedder

        return {name: make_embedder(s, self.path) for name, s in self.settings.spaces.items()}

    @cached_property
    def steps(self) -> Steps:
        """The steps in force, with their keys."""
        from refinery.near_duplicates import near_duplicates_step
        from refinery.steps.embed import embed_step
        from refinery.steps.inspect import inspect_step

        inspect = inspect_step(self.settings.inspect)
        embed = {name: embed_step(e) for name, e in self._embedders.items()}
        return Steps(
            inspect, embed, near_duplicates_step(self.settings.near_duplicates, inspect, embed["default"])
        )

    @cached_property
    def index(self) -> SampleIndex:
        """The searchable projection, under the fields there were when it or a projector was first asked for."""
        self._index_fields = self.fields
        return open_index(self.settings, self.path, self._index_fields)

    @property
    def has_index(self) -> bool:
        """Whether a projection into the index was ever finished."""
        return bool(self.index.position())

    @property
    def replayer(self) -> Replayer:
        """Replay under the fields of now."""
        return self._replayer(self.fields)

    @property
    def projector(self) -> Projector:
        """Projection of truth into the index, which is opened anew when fields were registered meanwhile."""
        fields = self.fields
        if "index" in self.__dict__ and self._index_fields != fields:
            del self.index
        builder = DocumentBuilder(self.store, self.batches, self.facts, fields, self.steps)
        return Projector(self.store, self.ledger, self.facts, builder, self.snapshots, self.steps, self.index)

    @property
    def scratch(self) -> Path:
        """A folder for what may be thrown away at any time."""
        name = digest(str(self.path).encode())[:16]
        folder = Path(tempfile.gettempdir()) / f"refinery-{getpass.getuser()}" / name
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        return folder

    # The ledger

    def flag(
        self,
        sample_ids: Sequence[str],
        kind: str,
        actor: Actor,
        *,
        reason: str | None = None,
        confidence: float | None = None,
        value: Any = None,
    ) -> list[Event]:
        """Stand one flag on each sample, all or none. InputError for an unknown kind or a sample that was never seen."""
        known = self.settings.known_flag_kinds
        self.samples.check_seen(sample_ids)
        return self.ledger.append(
            flag_event(i, kind, actor, known_kinds=known, reason=reason, confidence=confidence, value=value)
            for i in sample_ids
        )

    def tag(
        self, sample_ids: Sequence[str], tag: str, actor: Actor, *, reason: str | None = None
    ) -> list[Event]:
        """Stand one tag on each sample, all or none."""
        self.samples.check_seen(sample_ids)
        return self.ledger.append(tag_event(i, tag, actor, reason=reason) for i in sample_ids)

    def undo(
        self,
        actor: Actor,
        *,
        event_id: str | None = None,
        selection: Selection | None = None,
        reason: str | None = None,
    ) -> list[Event]:
        """Compensate what the selection (or `event_id` alone) names, and all that follows from it, as one act; without
        either the newest act. InputError when nothing is left to undo."""
        chosen = selection or Selection(event=event_id)
        return self.ledger.undo(select(self.ledger.view(), chosen), actor, reason)

    def preview_undo(self, selection: Selection, actor: Actor) -> UndoPreview:
        """What `undo` would compensate, and who would move. Nothing is written."""
        return preview_undo(self.replayer, self.policy, self.ledger.view(), selection, actor)

    @property
    def propagator(self) -> Propagator:
        """Propagation of flags to related samples."""
        from refinery.propagation import Propagator

        projector = self.projector
        return Propagator(
            self.store,
            self.ledger,
            self.batches,
            self.replayer,
            projector,
            self.fields,
            self.steps,
            self.index,
        )

    def register_field(self, field: Field, actor: Actor) -> Event:
        """Register an attribute; one that is registered so already stays as it is.

        InputError for a bad name, when it exists with another type, or when there are MAX_ATTRIBUTES already.
        """
        check_attribute(field)
        fields = self.fields
        if field.name in fields and fields[field.name] == field:
            view = self.ledger.view()
            same = (e for e in self.ledger.events() if e.type is EventType.FIELD and e.kind == field.name)
            return next(e for e in reversed(list(same)) if view.stands(e))
        if field.name in fields and fields[field.name].type is not field.type:
            raise InputError(
                f"Attribute {field.name!r} exists as {fields[field.name].type.value}: a type cannot change; register another name.",
                kind="field_exists",
            )
        if field.name not in fields:
            fields.check_room()
        value = {"type": field.type.value, "description": field.description}
        return self.ledger.append([Event(EventType.FIELD, actor, kind=field.name, value=value)])[0]

    def resolve(self, prefix: str) -> str:
        """The only sample id that starts with `prefix` (8 hex digits or more). InputError for none or several."""
        return self.samples.resolve(prefix)

    # Gold

    def replay(self, *, full: bool = False, actor: Actor = PROGRAM) -> ReplayReport:
        """Bring verdicts up to date under the policy in force; when that is another than the last, `actor` adopts it."""
        policy = self.policy
        record_policy(self.ledger, policy, actor)
        return self.replayer.replay(policy, full=full)

    def project(self) -> ProjectionReport:
        """Bring the index up to date with all of truth."""
        return self.projector.project()

    def rebuild_index(self) -> ProjectionReport:
        """Make the index again from truth; the old one answers until the new one takes its place."""
        return self.projector.rebuild()

    def explain(self, sample_id: str, at: int | None = None) -> Explanation:
        """Why a sample is in or out of gold; with `at` why it was after that ledger offset (see `refinery.asof`).

        InputError for a sample that was never ingested, and when the ledger is not that long.
        """
        fields = self._fields_at(at)
        explainer = Explainer(
            self.store,
            self.ledger,
            self.batches,
            self.facts,
            self._replayer(fields),
            self.snapshots,
            self.steps,
        )
        return explainer.explain(sample_id, self._policy(fields), at)

    def documents_at(self, offset: int, policy: Policy | None = None) -> asof.DocumentsAt:
        """All documents as they were after the first `offset` events of the ledger, to filter and search.

        `refinery.asof` says what is as of then and what is of now. InputError when the ledger is not that long.
        """
        fields = self._fields_at(offset)
        policy = policy or self._policy(fields)
        return asof.documents_at(self.ledger, offset, self._replayer(fields), self.snapshots, policy)

    def freeze(
        self,
        name: str,
        filter_text: str | None = None,
        splits: Splits | None = None,
        *,
        actor: Actor = PROGRAM,
    ) -> tuple[Snapshot, bool]:
        """Freeze gold (narrowed by a filter) as the next version of a dataset; the newest version when nothing differs.
        The ledger records it in the name of `actor`.

        Without `filter_text`, the dataset's own view and filter of refinery.yaml apply, without `splits` its own splits.
        ConfigError when verdicts are stale.
        """
        from refinery.freezing import freeze

        return freeze(self, name, filter_text, splits, actor)

    @property
    def takedown(self) -> Takedown:
        """Takedown of samples, under the steps and fields of now."""
        from refinery.takedown import Takedown

        return Takedown(
            self.store,
            self.ledger,
            self.batches,
            self.snapshots,
            self.exporter,
            self.replayer,
            self.steps,
        )

    def garbage(self, older_than: timedelta = timedelta(days=7)) -> Garbage:
        """What nothing needs any more of what is older than that, to look at or remove."""
        from refinery.gc import Garbage

        steps = [self.steps.inspect, self.steps.near_duplicates, *self.steps.embed.values()]
        return Garbage(self.store, steps, older_than=older_than)

    @property
    def removal(self) -> Removal:
        """Removal of snapshots."""
        return Removal(self.store, self.snapshots)

    def diff(self, old: str, new: str) -> SnapshotDiff:
        """What differs between two snapshots, with causes."""
        differ = Differ(self.store, self.ledger)
        return differ.diff(self.snapshots.get(old), self.snapshots.get(new))

    def gate(self, base: str, head: str, rules: Path | str) -> GateReport:
        """Judge the step from one snapshot to another by the rules in a YAML file."""
        return self._judge(self.snapshots.get(base), self.snapshots.get(head), Path(rules))

    def dataset_gate(self, snapshot: Snapshot) -> GateReport | None:
        """Judge the step to a snapshot from its parent by the rules that refinery.yaml gives its dataset; None when it
        gives none. A first version, or one whose parent was removed, is judged against itself: rules about change find none."""
        dataset = self.settings.datasets.get(snapshot.name)
        if dataset is None or dataset.gate is None:
            return None
        base = self.snapshots.parent(snapshot) or snapshot
        return self._judge(base, snapshot, self.path / dataset.gate)

    def _judge(self, base: Snapshot, head: Snapshot, rules: Path) -> GateReport:
        from refinery.gates import Gate, load_rules

        found = load_rules(rules, self.fields, self.settings.spaces)
        gate = Gate(
            self.store, self.ledger, self.snapshots, self.fields, lambda space: self.steps.embed[space]
        )
        return gate.judge(base, head, found)

    def status(self) -> accounting.Status:
        """Where the project stands."""
        return accounting.status(self.store, self.ledger, self.batches, self._unmet)

    def prove(self, ref: str, sample_id: str) -> Proof:
        """The proof that a snapshot holds a sample, for whoever knows the snapshot's root. InputError when it does not."""
        return prove(StateTrees(self.store), self.snapshots.get(ref).node, sample_id)

    def card(self, ref: str) -> Card:
        """The dataset card of a snapshot: the same snapshot, the same bytes. InputError when there is none."""
        from refinery.cards import make_card

        return make_card(self.store, self.batches, self.facts, self.snapshots.get(ref))

    def verify(self, ref: str) -> Iterator[str]:
        """Everything wrong with a snapshot and its exports, a sentence each."""
        try:
            snapshot = self.snapshots.get(ref)
        except CorruptionError as error:
            yield str(error)
            return
        yield from self.snapshots.verify(snapshot)
        yield from ExportCheck(self.store, self.snapshots).findings(snapshot)

    def _policy(self, fields: Fields) -> Policy:
        return load_policy(self.path / self.settings.policy, fields)

    def _replayer(self, fields: Fields) -> Replayer:
        return Replayer(self.store, self.ledger, self.batches, self.facts, fields, self.steps)

    def _fields_at(self, offset: int | None) -> Fields:
        """The fields that verdicts at an offset (None: now) are evaluated under."""
        return asof.fields_to_evaluate(self.ledger.view(offset), self.fields)
