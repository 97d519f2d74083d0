"""The newest verdict state and what it was computed from: one small object, swapped with compare-and-swap.

The head is itself a projection: deleting it costs a full replay and nothing else.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field
from typing import Any, NoReturn

from refinery.digests import canonical_json
from refinery.errors import CorruptionError
from refinery.states.tree import EMPTY_NODE, Node
from refinery.store import ObjectStore

KEY = "states/head.json"
FORMAT = "refinery.state/2"
_FORMER = "refinery.state/1"  # had no inputs


@dataclass(frozen=True, slots=True)
class StateHead:
    """`files` names the fact files seen per step (batch → version token), `clusters` digests the near-duplicate clusters;
    `inputs` are the segments that hold what these say (see `refinery.states.inputs`); `counts` are samples by verdict, `held`
    are held samples by their first reason, so that they add up."""

    root: str = EMPTY_NODE.digest
    count: int = 0
    ledger_offset: int = 0
    policy: str = ""
    fields: str = ""
    steps: dict[str, str] = field(default_factory=dict)
    files: dict[str, dict[str, str]] = field(default_factory=dict)
    clusters: str = ""
    batches: list[str] = field(default_factory=list)
    inputs: list[str] = field(default_factory=list)
    counts: dict[str, int] = field(default_factory=dict)
    held: dict[str, int] = field(default_factory=dict)

    @property
    def node(self) -> Node:
        """The state's tree."""
        return Node(self.root, self.count)

    def to_json(self) -> dict[str, Any]:
        return {"format": FORMAT, **asdict(self)}


def read_head(store: ObjectStore) -> tuple[StateHead, str | None]:
    """The newest head and its etag; an empty one without etag when nothing was replayed yet."""
    found = store.get_with_etag(KEY)
    if found is None:
        return StateHead(), None
    try:
        raw = json.loads(found[0])
        known = raw.pop("format") in (FORMAT, _FORMER)
        return (StateHead(**raw), found[1]) if known else _unreadable("another format")
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        _unreadable(error)


def _unreadable(why: object) -> NoReturn:
    raise CorruptionError(
        f"{KEY} is not {FORMAT} ({why}): delete it, and the next `refinery run` evaluates every sample anew.",
        kind="damaged_state",
    )


def write_head(store: ObjectStore, head: StateHead, etag: str | None) -> None:
    """Swap the head. ConflictError when another replay was quicker."""
    store.put_if_match(KEY, canonical_json(head.to_json()), etag)
