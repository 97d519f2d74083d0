"""Looking for what is wrong with a project: one finding for each check, with how to mend it."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from refinery.errors import ConfigError, CorruptionError, RefineryError, TransientError

if TYPE_CHECKING:
    from refinery.project import Refinery

_PROBED = 20
_NEIGHBOURS = 10
_GOOD_RECALL = 0.95

Look = Callable[["Refinery"], "Finding | str"]
Check = tuple[str, Look, str]
"""The name of a check, what it looks at, and how to mend what it finds."""


@dataclass(frozen=True)
class Finding:
    """One check: whether it is well, what was found, and how to mend it. `exit_code` is that of the error's group."""

    check: str
    state: Literal["ok", "attention", "broken"]
    found: str
    fix: str = ""
    exit_code: int = 0


def examine(project: Refinery, *more: Check, write: bool = True) -> Iterator[Finding]:
    """Every check of an open project in turn, and `more`, before the index is looked at. Without `write`, whether the store can be
    written is not tried."""
    checks: list[Check] = [
        *([_WRITES] if write else []),
        ("ledger", _ledger, "restore the named segment from a backup: the ledger is truth"),
        (
            "accounting",
            _accounting,
            "delete states/head.json in the store and `refinery run`: verdicts are computed anew",
        ),
        (
            "inputs",
            _inputs,
            "delete states/head.json in the store and `refinery run`: the facts are read again",
        ),
        ("snapshots", _snapshots, "restore the named objects from a backup, or freeze a new version"),
        ("datago", _datago, "`make build` compiles it"),
        ("embedder", _embedder, "see `embedder:` in refinery.yaml"),
        *more,
        ("index", _index, "`refinery rebuild-index` makes it again from the store"),
        ("recall", _recall, "raise `ef_search` of the index in refinery.yaml, or search with --exact"),
    ]
    for name, look, fix in checks:
        yield check(name, lambda look=look: look(project), fix)  # type: ignore[misc]


def check(name: str, look: Callable[[], Finding | str], fix: str) -> Finding:
    """The finding of one check: what `look` returns or raises."""
    try:
        found = look()
    except RefineryError as error:
        return Finding(name, "broken", str(error), fix, error.exit_code)
    except ImportError as error:
        return Finding(name, "broken", str(error), fix, ConfigError.exit_code)
    except OSError as error:
        return Finding(name, "broken", str(error), fix, TransientError.exit_code)
    except (ValueError, KeyError, TypeError) as error:
        return Finding(name, "broken", f"cannot be read: {error!r}", fix, CorruptionError.exit_code)
    return found if isinstance(found, Finding) else Finding(name, "ok", found)


def _store(project: Refinery) -> str:
    store, key = project.store, f"doctor/{uuid.uuid4().hex}"
    store.put_if_absent(key, b"")
    store.delete(key)
    return f"{store.url} can be written"


def _ledger(project: Refinery) -> str:
    segments = project.ledger.verify()
    return f"{segments:,} segments in an unbroken chain, {project.ledger.offset:,} events"


def _inputs(project: Refinery) -> str:
    from refinery.states.head import read_head
    from refinery.states.inputs import KeptInputs

    store = project.store
    segments = read_head(store)[0].inputs
    if wrong := KeptInputs(store).verify(segments):
        raise CorruptionError(" ".join(wrong), kind="lost_inputs")
    return f"{len(segments)} segment{'s' if len(segments) != 1 else ''}, each as its name says"


def _accounting(project: Refinery) -> Finding | str:
    from refinery.accounting import audit

    counts = audit(project.store, project.batches)
    text = f"{counts['seen']:,} seen = {counts['gold']:,} gold + {counts['held']:,} held + {counts['pending']:,} pending"
    status = project.status()
    if status.stale or status.staged:
        return Finding("accounting", "attention", f"{text}; verdicts are behind", "`refinery run`")
    return text


def _snapshots(project: Refinery) -> Finding | str:
    snapshots = project.snapshots
    damaged = [f"{s.ref}: {text}" for s in snapshots.all() for text in snapshots.verify(s, blobs=False)]
    if damaged:
        raise CorruptionError("; ".join(damaged), kind="damaged_snapshot")
    return f"{len(snapshots.all()):,} with their roots (`refinery snapshot verify REF` reads every blob and shard too)"


def _datago(_project: Refinery) -> str:
    import datago

    return f"built, {len(datago.__all__)} public names"


def _embedder(project: Refinery) -> str:
    embedder = project.embedder()
    return f"{embedder.name}, weights {embedder.model_digest[:16]}"


def _index(project: Refinery) -> Finding | str:
    """Compare the index with truth, document by document."""
    if not project.has_index:
        return Finding(
            "index", "attention", "there is none yet", "`refinery run` or `refinery rebuild-index`"
        )
    documents = project.projector.documents()
    truth = dict(zip(documents["sample_id"].to_pylist(), documents["doc_digest"].to_pylist(), strict=True))
    rows = project.index.digests()
    found = dict(zip(rows["sample_id"].to_pylist(), rows["doc_digest"].to_pylist(), strict=True))
    other = sum(1 for i, d in found.items() if i in truth and truth[i] != d)
    text = f"{len(found):,} documents; {len(truth.keys() - found.keys()):,} missing, {other:,} not as they should be, {len(found.keys() - truth.keys()):,} too many"
    if found == truth:
        return f"{len(found):,} documents, all as the store says"
    return Finding("index", "attention", text, "`refinery run`, or `refinery rebuild-index`")


def _recall(project: Refinery) -> Finding | str:
    """Compare the index's similarity search with brute force, on its own vectors."""
    from refinery.index.probe import recall

    parts = []
    for space in project.settings.spaces if project.has_index else ():
        if (found := recall(project.index, _PROBED, _NEIGHBOURS, space)) is not None:
            parts.append((found, f"{found:.1%} of the {_NEIGHBOURS} most similar found in the space {space}"))
    text = "; ".join(part for _, part in parts) or "no two vectors to compare yet"
    if any(found < _GOOD_RECALL for found, _ in parts):
        fix = "raise `ef_search` of the index in refinery.yaml, or search with --exact"
        return Finding("recall", "attention", text, fix)
    return text


_WRITES: Check = ("store", _store, "make the store's folder writable, with space left on its disk")
