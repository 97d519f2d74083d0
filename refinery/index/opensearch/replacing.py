"""A replacement of an index: built beside it, written by everybody, and put in its place by one atomic request.

Replacements are told apart by their sequence, and the later one goes on. Each makes its index first and looks for others
then, so of two that begin at once at least one sees the other: it leaves if the other is later, and removes it if not.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from typing import Any

from refinery.errors import ConflictError, RefineryError
from refinery.fields import Fields
from refinery.index.opensearch.backing import Layout
from refinery.index.opensearch.client import Refused, turns
from refinery.index.opensearch.control import Control


@contextmanager
def replacing(
    layout: Layout,
    control: Control,
    fields: Fields,
    spaces: Mapping[str, int],
) -> Iterator[str]:
    """The builder's alias of a new backing index; at the end of the block the index takes the place of the live one.

    ConflictError(kind="replaced") when a later replacement has begun.
    """
    sequence = control.next_sequence()
    build = f"{layout.live}.build-{sequence}"
    index = layout.create(sequence, build, fields, spaces)
    try:
        _announce(layout, control, index)
        yield build
        _put_in_place(layout, control, index)
    except BaseException as error:
        with suppress(RefineryError):  # what cannot be removed now, the next replacement removes
            layout.remove(index)
            control.forget(index)
        if isinstance(error, Refused) and error.gone:
            raise replaced(layout.live) from None
        raise


def _announce(layout: Layout, control: Control, index: str) -> None:
    """Have everybody write to the new index too, and remove what earlier replacements left."""
    for _ in turns():
        others = [b for b in layout.all() if b.index != index and layout.live not in b.aliases]
        mine = int(index.rpartition("-")[2])
        if any(other.sequence > mine for other in others):
            raise replaced(layout.live)
        actions = [{"remove_index": {"index": other.index}} for other in others]
        try:
            layout.change([{"add": {"index": index, "alias": layout.next}}, *actions])
        except Refused as refused:
            if not refused.gone:
                raise
            continue
        for other in others:
            control.forget(other.index)
        return
    raise replaced(layout.live)


def _put_in_place(layout: Layout, control: Control, index: str) -> None:
    for _ in turns():
        known = layout.all()
        mine = next((b for b in known if b.index == index), None)
        if mine is not None and layout.live in mine.aliases:
            return  # the reply to an earlier attempt was lost
        if mine is None or layout.next not in mine.aliases:
            raise replaced(layout.live)
        old = [b.index for b in known if layout.live in b.aliases]
        actions: list[dict[str, Any]] = [
            {"remove": {"index": index, "alias": layout.next, "must_exist": True}},
            {"add": {"index": index, "alias": layout.live}},
            *({"remove_index": {"index": name}} for name in old),
        ]
        try:
            layout.change(actions)
        except Refused as refused:
            if not refused.gone:
                raise
            continue
        for name in old:
            control.forget(name)
        return
    raise replaced(layout.live)


def replaced(name: str) -> ConflictError:
    """Says that a replacement was overtaken."""
    return ConflictError(
        f"A later replacement of the index {name!r} has begun: that one goes on, this one was dropped.",
        kind="replaced",
    )
