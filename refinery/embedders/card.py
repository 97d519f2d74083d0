"""What is known of a model without loading it, remembered beside the project so that step keys stay cheap."""

from __future__ import annotations

import json
import uuid
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from refinery.digests import canonical_json, digest_json

_FOLDER = ".refinery/models"


@dataclass(frozen=True, slots=True)
class ModelCard:
    """A model as its settings name it: where its weights lie, their digest, and the shape of its input and output."""

    weights: str
    model_digest: str
    dimension: int
    side: int
    fit: str
    mean: tuple[float, float, float]
    std: tuple[float, float, float]


def remembered(project_dir: Path, asked: dict[str, Any]) -> ModelCard | None:
    """The card noted for these settings, when the weights file is still the one it was made of (size and time)."""
    try:
        note = json.loads(_path(project_dir, asked).read_bytes())
        card = note["card"]
        if note["stamp"] != _stamp(Path(card["weights"])):
            return None
        return ModelCard(**{**card, "mean": tuple(card["mean"]), "std": tuple(card["std"])})
    except (OSError, ValueError, KeyError, TypeError):
        return None


def remember(project_dir: Path, asked: dict[str, Any], card: ModelCard) -> None:
    """Note a card. The note is a cache: losing it costs one reading of the weights."""
    path = _path(project_dir, asked)
    path.parent.mkdir(parents=True, exist_ok=True)
    scratch = path.with_name(f"{path.name}.{uuid.uuid4().hex}")
    scratch.write_bytes(canonical_json({"stamp": _stamp(Path(card.weights)), "card": asdict(card)}))
    scratch.replace(path)


def _path(project_dir: Path, asked: dict[str, Any]) -> Path:
    return project_dir / _FOLDER / f"{digest_json(asked)[:16]}.json"


def _stamp(path: Path) -> list[int]:
    stat = path.stat()
    return [stat.st_size, stat.st_mtime_ns]
