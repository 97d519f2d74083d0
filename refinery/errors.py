"""Every error refinery raises on purpose, as a tree drawn by what a handler does.

    RefineryError
    ├── InputError       fix the input     exit code 3
    ├── ConfigError      fix the config    exit code 4
    ├── TransientError   retry             exit code 5   (the only retryable group)
    ├── ConflictError    somebody else won exit code 6
    ├── CorruptionError  data is damaged   exit code 7
    └── GateError        mend the dataset  exit code 8

A message names the thing, what was found, and what to do. `kind` is stable: programs match on it, never on the text.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from typing import ClassVar


class RefineryError(Exception):
    """Base of all errors of refinery. `kind` is a stable code; `retryable` says whether the same call may succeed later."""

    retryable: ClassVar[bool] = False
    exit_code: ClassVar[int] = 1

    def __init__(self, message: str, *, kind: str) -> None:
        super().__init__(message)
        self.kind = kind

    def to_json(self) -> dict[str, object]:
        """The error as a JSON object: `error` (text), `kind`, `retryable`."""
        return {"error": str(self), "kind": self.kind, "retryable": self.retryable}


class InputError(RefineryError):
    """What was passed in is wrong: an unknown sample, field or file, an unparsable filter."""

    exit_code = 3


class ConfigError(RefineryError):
    """The project, policy or recipe is wrong or missing."""

    exit_code = 4


class TransientError(RefineryError):
    """A server or disk did not answer this time; the same call may succeed later."""

    retryable = True
    exit_code = 5


class ConflictError(RefineryError):
    """A conditional write lost to another writer, or an immutable thing already exists with other content."""

    exit_code = 6


class CorruptionError(RefineryError):
    """Stored data is not what its digest or format says."""

    exit_code = 7


class GateError(RefineryError):
    """A snapshot does not pass the gate of its dataset: mend the dataset, or the rules on purpose."""

    exit_code = 8


def did_you_mean(found: str, known: Iterable[str]) -> str:
    """A sentence " Did you mean 'x'?" for the closest known word, or an empty string."""
    close = difflib.get_close_matches(found, list(known), n=1, cutoff=0.7)
    return f" Did you mean {close[0]!r}?" if close else ""
