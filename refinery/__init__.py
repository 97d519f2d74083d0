"""refinery: raw pictures in, training-ready reproducible datasets out, every sample explained.

    from refinery import Refinery
    project = Refinery.open("my-project")
    project.status(), project.explain(sample_id), project.freeze("train")

Names are loaded when they are first used, so that `import refinery` costs nothing.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from refinery.errors import (
        ConfigError,
        ConflictError,
        CorruptionError,
        InputError,
        RefineryError,
        TransientError,
    )
    from refinery.fields import Field, FieldType
    from refinery.ledger import Actor, ActorKind, Event
    from refinery.loading import load_dataset
    from refinery.project import Refinery
    from refinery.snapshots import Snapshot

__all__ = [
    "Actor",
    "ActorKind",
    "ConfigError",
    "ConflictError",
    "CorruptionError",
    "Event",
    "Field",
    "FieldType",
    "InputError",
    "Refinery",
    "RefineryError",
    "Snapshot",
    "TransientError",
    "load_dataset",
]

_HOMES = {
    "refinery.errors": (
        "ConfigError",
        "ConflictError",
        "CorruptionError",
        "InputError",
        "RefineryError",
        "TransientError",
    ),
    "refinery.fields": ("Field", "FieldType"),
    "refinery.ledger": ("Actor", "ActorKind", "Event"),
    "refinery.loading": ("load_dataset",),
    "refinery.project": ("Refinery",),
    "refinery.snapshots": ("Snapshot",),
}
_HOME = {name: home for home, names in _HOMES.items() for name in names}


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(import_module(_HOME[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
