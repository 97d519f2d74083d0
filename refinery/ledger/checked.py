"""Checked events: each constructor refuses what the ledger should never hold."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable
from typing import Any

from refinery.digests import check_sample_id
from refinery.errors import InputError, did_you_mean
from refinery.ledger.events import Actor, Event, EventType, may_take_off
from refinery.ledger.view import LedgerView

_METRIC = re.compile(r"[A-Za-z0-9][A-Za-z0-9._/@=+-]{0,99}")
_WORD = re.compile(r"[a-z][a-z0-9_]{0,63}")
_NAME = re.compile(r"[a-z0-9][a-z0-9_-]{0,63}")
_DIGEST = re.compile(r"[0-9a-f]{64}")


def flag_event(
    sample_id: str,
    kind: str,
    actor: Actor,
    *,
    known_kinds: tuple[str, ...],
    reason: str | None = None,
    value: Any = None,
    confidence: float | None = None,
    evidence: Any = None,
    cause: str | None = None,
) -> Event:
    """A checked flag. InputError for an unknown kind (with a suggestion), a bad sample id or confidence."""
    check_sample_id(sample_id)
    _check_kind(kind, known_kinds)
    _check_confidence(confidence)
    return Event(
        EventType.FLAG,
        actor,
        sample_id=sample_id,
        kind=kind,
        value=value,
        confidence=confidence,
        reason=reason,
        evidence=evidence,
        cause=cause,
    )


def tag_event(sample_id: str, tag: str, actor: Actor, *, reason: str | None = None) -> Event:
    """A checked tag: free words, at most 200 characters, not empty."""
    check_sample_id(sample_id)
    if not tag.strip() or len(tag) > 200:
        raise InputError(f"A tag has 1 to 200 characters: found {tag!r:.220}.", kind="bad_tag")
    return Event(EventType.TAG, actor, sample_id=sample_id, kind="tag", value=tag.strip(), reason=reason)


def unflag_events(
    view: LedgerView,
    sample_ids: Iterable[str],
    kind: str,
    actor: Actor,
    *,
    known_kinds: tuple[str, ...],
    tag: str | None = None,
    reason: str | None = None,
) -> list[Event]:
    """Events that take off every flag of `kind` that stands (with kind `tag`: this one tag) from samples, whoever stood it;
    none for a sample where none stands.

    InputError for an unknown kind, when nothing is to be taken off, or when `actor` may not: what a person said, and
    `blocked`, only a person takes off.
    """
    if (kind == "tag") != (tag is not None):
        raise InputError("To take off a tag, give the kind `tag` and the tag's words.", kind="bad_tag")
    if tag is None:
        _check_kind(kind, known_kinds)
    events = []
    for sample_id in sample_ids:
        check_sample_id(sample_id)
        event = Event(EventType.UNFLAG, actor, sample_id=sample_id, kind=kind, value=tag, reason=reason)
        wanted = [e for e in view.standing(sample_id) if event.names(e)]
        for standing in wanted:
            if not may_take_off(actor, standing):
                raise InputError(
                    f"{standing.describe()} stands on sample {sample_id}: what a person said, and `blocked`, is taken off"
                    f" by a person only, and {actor} is none.",
                    kind="persons_word",
                )
        if wanted:
            events.append(event)
    if not events:
        what = f"tag {tag!r}" if tag is not None else f"flag {kind!r}"
        raise InputError(f"No {what} stands on any of these samples.", kind="nothing_to_unflag")
    return events


def eval_event(
    sample_id: str,
    metric: str,
    value: float | str | bool,
    actor: Actor,
    *,
    evidence: Any = None,
    reason: str | None = None,
    confidence: float | None = None,
    cause: str | None = None,
) -> Event:
    """A checked eval result of one sample: `metric` says of what (`coco-val/ap50`), `value` is a number or an outcome of 1 to
    200 characters, `evidence` says which run and model. InputError for a bad id, metric, value or confidence."""
    check_sample_id(sample_id)
    _check_name(_METRIC, metric, "a metric: up to 100 letters, digits and ._/@=+-")
    number = isinstance(value, int | float) and math.isfinite(value)
    if not number and not (isinstance(value, str) and 0 < len(value) <= 200):
        raise InputError(
            f"The result of an eval is a finite number or an outcome of 1 to 200 characters: found {value!r:.220}.",
            kind="bad_eval",
        )
    _check_confidence(confidence)
    return Event(
        EventType.EVAL,
        actor,
        sample_id=sample_id,
        kind=metric,
        value=value,
        confidence=confidence,
        reason=reason,
        evidence=evidence,
        cause=cause,
    )


def feedback_event(
    sample_id: str,
    kind: str,
    actor: Actor,
    *,
    value: Any = None,
    reason: str | None = None,
    evidence: Any = None,
    cause: str | None = None,
) -> Event:
    """Checked feedback on one sample: `kind` is one word, such as `up` or `down`; `value` is any JSON, such as a rating, and
    `evidence` says where it was given. InputError for a bad id or word."""
    check_sample_id(sample_id)
    _check_name(_WORD, kind, "a word of feedback: up to 64 of a-z, 0-9 and _")
    return Event(
        EventType.FEEDBACK,
        actor,
        sample_id=sample_id,
        kind=kind,
        value=value,
        reason=reason,
        evidence=evidence,
        cause=cause,
    )


def policy_event(name: str, digest: str, actor: Actor, *, reason: str | None = None) -> Event:
    """The record that a policy was adopted: its name and digest."""
    _check_name(_DIGEST, digest, "the digest of a policy: 64 lower-case hex digits")
    return Event(EventType.POLICY, actor, kind=name, value=digest, reason=reason)


def view_event(name: str, version: int, filter_text: str, actor: Actor, **more: Any) -> Event:
    """The record that a version of a view was saved; `more` are further members of its value, such as `sort`."""
    _check_name(_NAME, name, "the name of a view: up to 64 of a-z, 0-9, _ and -")
    value = {"version": _version(version), "filter": filter_text, **more}
    return Event(EventType.VIEW, actor, kind=name, value=value)


def snapshot_event(name: str, version: int, root: str, actor: Actor, *, reason: str | None = None) -> Event:
    """The record that a snapshot was frozen: its name, version and root."""
    _check_name(_NAME, name, "the name of a snapshot: up to 64 of a-z, 0-9, _ and -")
    _check_name(_DIGEST, root, "a root: 64 lower-case hex digits")
    value = {"version": _version(version), "root": root}
    return Event(EventType.SNAPSHOT, actor, kind=name, value=value, reason=reason)


def _version(version: int) -> int:
    if version < 1:
        raise InputError(f"Versions count from 1: found {version}.", kind="bad_version")
    return version


def _check_name(pattern: re.Pattern[str], found: str, what: str) -> None:
    if not pattern.fullmatch(found):
        raise InputError(f"{found!r:.220} is not {what}.", kind="bad_name")


def _check_kind(kind: str, known_kinds: tuple[str, ...]) -> None:
    if kind not in known_kinds:
        raise InputError(
            f"There is no flag kind {kind!r}.{did_you_mean(kind, known_kinds)} Known kinds: {', '.join(known_kinds)};"
            " add your own under `flag_kinds:` in refinery.yaml.",
            kind="unknown_flag_kind",
        )


def _check_confidence(confidence: float | None) -> None:
    if confidence is not None and not 0 <= confidence <= 1:
        raise InputError(f"A confidence lies between 0 and 1: found {confidence}.", kind="bad_confidence")
