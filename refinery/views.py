"""Views: saved, named, versioned queries. A view is live: it names a query, never samples.

A version is one event of the ledger, so that who saved what and when is known, and a view can be read as it was. The event's
id is made of name and version: of two writers who save at once, each gets a version of its own.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

from refinery.config import DatasetSettings
from refinery.digests import digest_json
from refinery.errors import ConfigError, ConflictError, CorruptionError, InputError, did_you_mean
from refinery.fields import Fields
from refinery.filter import Filter, conjunction, parse
from refinery.ledger import Actor, Event, EventType, Ledger, view_event

_MEMBERS = frozenset({"version", "filter", "text", "sort"})
_MOST_TRIES = 1000


@dataclass(frozen=True, slots=True)
class View:
    """One version of a view: a filter ("" selects all), and one of `text` (words, the best match first) and `sort` (a
    field's name, with a leading - for descending) that orders, or neither. `saved_by`, `saved_at` and `offset` are those of
    its event."""

    name: str
    version: int
    filter: str
    text: str | None
    sort: str | None
    saved_by: str
    saved_at: str
    offset: int

    @property
    def ref(self) -> str:
        """How people name it: `name@version`."""
        return f"{self.name}@{self.version}"

    def selects(self, fields: Fields, also: str | None = None) -> Filter:
        """The filter of the view, and of the text `also`. InputError(kind="stale_view") when the view asks for a field
        that is no longer there."""
        try:
            parts = [parse(self.filter, fields)] if self.filter else []
            if self.sort:
                fields[self.sort.removeprefix("-")]
        except InputError as error:
            raise InputError(
                f"View {self.ref} asks for what is no longer there. {error} Register that field again, or save "
                f"another version of {self.name!r}.",
                kind="stale_view",
            ) from None
        if also and also.strip():
            parts.append(parse(also, fields))
        return conjunction(parts)


class Views:
    """The views of one project. `fields` gives the fields of now."""

    def __init__(self, ledger: Ledger, fields: Callable[[], Fields]) -> None:
        self._ledger, self._fields = ledger, fields

    def all(self, at: int | None = None) -> list[View]:
        """The newest version of every view by name, now or after the first `at` events of the ledger."""
        newest = {view.name: view for view in self._saved(None, at)}
        return [newest[name] for name in sorted(newest)]

    def versions(self, name: str, at: int | None = None) -> list[View]:
        """Every version of a view, the oldest first; none when there is no such view."""
        return self._saved(name, at)

    def get(self, ref: str, at: int | None = None) -> View:
        """The view `name@version`, or the newest version of `name`, now or after the first `at` events of the ledger.

        InputError(kind="no_such_view") with a suggestion when there is none.
        """
        name, _, version = ref.partition("@")
        found = self._saved(name, at)
        if not version and found:
            return found[-1]
        for view in found:
            if view.ref == ref:
                return view
        known = [v.ref for v in found] or [v.name for v in self.all(at)]
        then = "" if at is None else f" at ledger offset {at}"
        raise InputError(
            f"There is no view {ref!r}{then}.{did_you_mean(ref, known)} `refinery views list` lists them all.",
            kind="no_such_view",
        )

    def save(
        self, name: str, filter_text: str, actor: Actor, *, text: str | None = None, sort: str | None = None
    ) -> tuple[View, bool]:
        """Save a query as the next version of a view. (view, True) when it is new; (the newest version, False) when that
        says exactly this already.

        InputError for a name that cannot be one, a filter or field that does not fit, and for two orders.
        """
        fields = self._fields()
        checked = parse(filter_text, fields).text if filter_text.strip() else ""
        words = (text or "").strip() or None
        if words and sort:
            raise InputError("A view has one order: words or a field to sort by, not both.", kind="bad_query")
        if sort:
            fields[sort.removeprefix("-")]
        more = {key: value for key, value in (("text", words), ("sort", sort)) if value}
        for _ in range(_MOST_TRIES):
            newest = self._saved(name, None)[-1:]
            version = newest[0].version + 1 if newest else 1
            event = replace(view_event(name, version, checked, actor, **more), id=_event_id(name, version))
            if newest and _members(newest[0]) == (checked, words, sort):
                return newest[0], False
            stored = self._ledger.append([event])[0]
            if (stored.value, stored.actor, stored.time) == (event.value, event.actor, event.time):
                return _view(stored), True
        raise ConflictError(f"View {name!r} was saved by others all the time. Try again.", kind="view_busy")

    def narrow(self, name: str, dataset: DatasetSettings) -> tuple[str | None, str | None]:
        """What refinery.yaml narrows a dataset to: what its view selects, and its filter (None for neither); and the view, as
        name@version.

        ConfigError for a view that ranks by words: a rank selects nothing that could be frozen.
        """
        if dataset.view is None:
            return dataset.filter, None
        view = self.get(dataset.view)
        if view.text:
            raise ConfigError(
                f"Dataset {name!r} cannot be frozen from view {view.ref}, which ranks by words: say them in its filter, as in "
                "matches(caption, 'red panda').",
                kind="view_with_words",
            )
        return view.selects(self._fields(), dataset.filter).text, view.ref

    def _saved(self, name: str | None, at: int | None) -> list[View]:
        return [_view(event) for event in self._ledger.view(at).records(EventType.VIEW, name)]


def _event_id(name: str, version: int) -> str:
    return digest_json(["view", name, version])[:32]


def _members(view: View) -> tuple[str, str | None, str | None]:
    return view.filter, view.text, view.sort


def _view(event: Event) -> View:
    value: Any = event.value
    if not isinstance(value, dict) or not {"version", "filter"} <= set(value) <= _MEMBERS:
        raise CorruptionError(
            f"The view that event {event.id} saved has members that this version cannot read: {value!r:.200}. "
            "Use the version that saved it.",
            kind="unknown_view",
        )
    return View(
        name=str(event.kind),
        version=value["version"],
        filter=value["filter"],
        text=value.get("text"),
        sort=value.get("sort"),
        saved_by=str(event.actor),
        saved_at=event.time,
        offset=event.offset,
    )
