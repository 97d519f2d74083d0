"""Freezing: what the screen selects of gold, or a dataset as it was, as a snapshot in a person's name; and what one pins."""

from __future__ import annotations

from dataclasses import dataclass

from refinery.errors import CorruptionError, InputError, RefineryError
from refinery.locks import Locks
from refinery.project import Refinery
from refinery.snapshot_splits import SnapshotSplits
from refinery.snapshots import Snapshot
from refinery.splits import Splits
from ui.core.acts import Acts, behind


@dataclass(frozen=True, slots=True)
class Frozen:
    """A snapshot, whether it is `new`, and why the index does not know it yet; empty when it does."""

    snapshot: Snapshot
    new: bool
    behind: str = ""


class Freezing:
    """Freezes datasets of one project, in the name of a person."""

    def __init__(self, project: Refinery, acts: Acts) -> None:
        self._project, self._acts = project, acts
        self._pinned: dict[str, dict[str, str]] = {}

    def newest(self) -> Snapshot | None:
        """The snapshot that was frozen last, of any dataset."""
        found = self._project.snapshots.all()
        return max(found, key=lambda s: (s.ledger_offset, s.created_at), default=None)

    def freeze(self, dataset: str, filter_text: str | None, splits: str, name: str) -> Frozen:
        """Freeze gold, narrowed by a filter, as the next version of a dataset; with splits such as train=0.9,val=0.1, or none.

        For a dataset of refinery.yaml what is not given is as it says there. InputError or ConfigError without a name, for a
        dataset, filter or splits that are none, and when verdicts are behind.
        """
        actor = self._acts.actor(name)
        if not dataset.strip():
            raise InputError("Name the dataset whose next version this is.", kind="no_name")
        rule = Splits.parse(splits) if splits.strip() else None
        snapshot, new = self._project.freeze(dataset.strip(), filter_text or None, rule, actor=actor)
        return Frozen(snapshot, new, self._follow())

    def again(self, ref: str, name: str) -> Frozen:
        """Freeze the dataset of a snapshot as its next version, in the way it was frozen; not `new` when nothing differs."""
        actor, old = self._acts.actor(name), self._project.snapshots.get(ref)
        filter_text, splits = None, None
        if old.name not in self._project.settings.datasets:
            filter_text = old.filter
            splits = SnapshotSplits(self._project.store, old).rule if old.splits is not None else None
        snapshot, new = self._project.freeze(old.name, filter_text, splits, actor=actor)
        return Frozen(snapshot, new, self._follow())

    def pinned(self, ref: str) -> dict[str, str]:
        """What the lock of a snapshot pins, by name and in words, as it was when first asked for; one entry that says why when it
        has no lock to rely on."""
        if ref in self._pinned:
            return self._pinned[ref]
        try:
            lock = Locks(self._project.store).read(ref)
        except CorruptionError as error:
            return {"lock": f"damaged: {error}"}
        except RefineryError as error:
            return {"lock": str(error)}
        found = {
            "objects": f"{len(lock.objects):,}, each by the digest of its bytes",
            "ledger": f"{lock.segments:,} segments, up to {lock.last[:16] if lock.last else 'none'}",
            "facts": f"{len(lock.facts):,} files, each by the root of its rows",
            "batches": f"{len(lock.batches):,}, of which {len(lock.compared):,} compared for near-duplicates",
        }
        self._pinned[ref] = found | ({"clusters": lock.clusters} if lock.clusters else {})
        return self._pinned[ref]

    def _follow(self) -> str:
        """Let the index learn which samples are in a snapshot that is new."""
        return behind(lambda: self._project.project() if self._project.has_index else None)
