"""`refinery.yaml`: what a project is made of. Unknown keys are errors; relative paths are relative to the file."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from refinery.errors import ConfigError, did_you_mean

M = TypeVar("M", bound=BaseModel)
FILE_NAME = "refinery.yaml"
FLAG_KINDS = ("keep", "reject", "blocked", "review")


class _Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class StoreSettings(_Section):
    """Where truth lives."""

    kind: Literal["local"] = "local"
    path: Path = Path("store")


class IndexSettings(_Section):
    """Where the searchable projection lives."""

    kind: Literal["lancedb"] = "lancedb"
    path: Path = Path("index")


class EmbedderSettings(_Section):
    """Which model embeds samples. `model` names an open_clip architecture, with a `pretrained` tag or a local `checkpoint`."""

    kind: Literal["open_clip", "efficientnet_lite0"] = "open_clip"
    model: str = "ViT-B-32-256"
    pretrained: str | None = "datacomp_s34b_b86k"
    checkpoint: Path | None = None
    device: Literal["auto", "cpu", "cuda"] = "auto"
    batch_size: Annotated[int, Field(gt=0)] = 32


class NearDuplicateSettings(_Section):
    """When two samples are near-duplicates: equal pixels, close perceptual hashes (bits that differ, of 64), or close embeddings.

    docs/near-duplicates.md has the measurements behind the defaults.
    """

    phash_distance: Annotated[int, Field(ge=0, le=16)] = 6
    cosine: Annotated[float, Field(gt=0, le=1)] = 0.95


class InspectSettings(_Section):
    """Caps and sizes of the inspection."""

    max_bytes: Annotated[int, Field(gt=0)] = 256 << 20
    max_pixels: Annotated[int, Field(gt=0)] = 178_956_970
    thumbnail_side: Annotated[int, Field(ge=16, le=1024)] = 256


class SourceSettings(_Section):
    """A source that the sensors watch."""

    name: str
    kind: Literal["folder", "manifest", "webdataset"] = "folder"
    path: Path


class DatasetSettings(_Section):
    """A dataset that gold freezes and exports: a filter over gold, and a recipe for its shards (see datago.Recipe)."""

    filter: str | None = None
    exports: list[dict[str, Any]] = []


class Settings(_Section):
    """The whole of `refinery.yaml`."""

    store: StoreSettings = StoreSettings()
    index: IndexSettings = IndexSettings()
    embedder: EmbedderSettings = EmbedderSettings()
    extra_embedders: dict[str, EmbedderSettings] = {}
    inspect: InspectSettings = InspectSettings()
    near_duplicates: NearDuplicateSettings = NearDuplicateSettings()
    batch_size: Annotated[int, Field(gt=0)] = 2000
    policy: Path = Path("policy.yaml")
    flag_kinds: list[str] = []
    sources: list[SourceSettings] = []
    datasets: dict[str, DatasetSettings] = {}
    code_location: str = "assets.run"

    @property
    def known_flag_kinds(self) -> tuple[str, ...]:
        """The flag kinds people and models may use: the built-in ones and the project's own."""
        return (*FLAG_KINDS, *self.flag_kinds)

    @property
    def spaces(self) -> dict[str, EmbedderSettings]:
        """Every embedding space by name; `default` is the one that search and near-duplicates use."""
        return {"default": self.embedder, **self.extra_embedders}


def load_settings(project: Path) -> Settings:
    """Read `refinery.yaml` of a project folder. ConfigError names the first wrong key and what it should be."""
    path = Path(project) / FILE_NAME
    try:
        raw = yaml.safe_load(path.read_text(encoding="utf-8")) or {}
    except FileNotFoundError:
        raise ConfigError(
            f"{project} is not a refinery project: it has no {FILE_NAME}. Create one with `refinery init {project}`.",
            kind="no_project",
        ) from None
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path} is not YAML: {error}", kind="bad_config") from None
    return validate(Settings, raw, str(path))


def validate(model: type[M], raw: Any, where: str) -> M:
    """`raw` as `model`; ConfigError in one sentence, with a suggestion for a misspelt key, when it does not fit."""
    try:
        return model.model_validate(raw)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        place = ".".join(str(part) for part in first["loc"]) or "the document"
        if first["type"] == "extra_forbidden":
            parent: Any = model
            for part in first["loc"][:-1]:
                field = getattr(parent, "model_fields", {}).get(part)
                parent = field.annotation if field else None
            known = getattr(parent, "model_fields", {})
            message = f"{where}: unknown key {place!r}.{did_you_mean(str(first['loc'][-1]), known)}"
        else:
            message = f"{where}: {place}: {first['msg']} (found {first['input']!r})."
        raise ConfigError(message, kind="bad_config") from None
