"""What datago raises, grouped by what a handler would do about it. A bad *picture* never raises: it has a reason."""

from __future__ import annotations


class DatagoError(Exception):
    """Any failure of a whole call."""

    kind = "internal"
    retryable = False


class ConfigError(DatagoError, ValueError):
    """A recipe or an argument is wrong: fix the configuration."""

    kind = "config"


class InputError(DatagoError, ValueError):
    """The samples or records handed over are wrong: fix the input."""

    kind = "input"


class StorageError(DatagoError, OSError):
    """Reading or writing files failed: try again."""

    kind = "storage"
    retryable = True


class CorruptionError(DatagoError):
    """Stored data is not what its digest or format says: restore it."""

    kind = "corruption"


class StreamTimeoutError(DatagoError, TimeoutError):
    """A stream had no batch ready within the time given: ask it again."""

    kind = "timeout"
    retryable = True
