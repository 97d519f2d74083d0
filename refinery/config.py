"""`refinery.yaml`: what a project is made of. Unknown keys are errors; relative paths are relative to the file."""

from __future__ import annotations

import reprlib
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar, get_args

import yaml
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError, model_validator
from pydantic_core import PydanticCustomError

from refinery.errors import ConfigError, did_you_mean

M = TypeVar("M", bound=BaseModel)
FILE_NAME = "refinery.yaml"
FLAG_KINDS = ("keep", "reject", "blocked", "review")


class _Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class LocalStoreSettings(_Section):
    """Truth in a local directory."""

    kind: Literal["local"] = "local"
    path: Path = Path("store")


class S3Connection(_Section):
    """How an S3 service is reached. Credentials never stand here: they come from boto3's standard chain.

    `endpoint` None is AWS itself; `path_style` None means path-style addressing exactly when an endpoint is given.
    """

    endpoint: str | None = None
    region: str | None = None
    path_style: bool | None = None
    profile: str | None = None


class S3StoreSettings(S3Connection):
    """Truth in a bucket, below a prefix. `s3://bucket/prefix` is short for the two."""

    kind: Literal["s3"] = "s3"
    bucket: str
    prefix: str = ""


class LanceSettings(_Section):
    """The searchable projection embedded, in a local folder."""

    kind: Literal["lancedb"] = "lancedb"
    path: Path = Path("index")


class OpenSearchSettings(_Section):
    """The searchable projection on OpenSearch, under the alias `name` (default: the project folder's name).

    Secrets never stand here. `auth: basic` reads OPENSEARCH_USERNAME and OPENSEARCH_PASSWORD (or the file named by
    OPENSEARCH_PASSWORD_FILE); `auth: sigv4` signs with the credentials of boto3's standard chain for `region`.
    `ca` is a file of certificates to trust. Documents are sent `bulk_rows` or `bulk_bytes` at a time, whichever is less,
    `bulk_in_flight` such requests at once. `quantization` of vectors: `fp16` is of the engine faiss, `byte` of lucene.
    The mapping settings (`shards` … `quantization`) hold from the next `refinery rebuild-index` on.
    """

    kind: Literal["opensearch"] = "opensearch"
    url: str = "http://127.0.0.1:9200"
    name: Annotated[str | None, Field(pattern=r"^[a-z0-9][a-z0-9_-]{0,99}$")] = None
    auth: Literal["none", "basic", "sigv4"] = "none"
    region: str | None = None
    service: Literal["es", "aoss"] = "es"
    profile: str | None = None
    ca: Path | None = None
    timeout: Annotated[float, Field(gt=0)] = 30
    shards: Annotated[int, Field(ge=1, le=1024)] = 1
    replicas: Annotated[int, Field(ge=0, le=10)] = 0
    engine: Literal["lucene", "faiss"] = "lucene"
    m: Annotated[int, Field(ge=2, le=100)] = 16
    ef_construction: Annotated[int, Field(ge=8, le=2000)] = 100
    ef_search: Annotated[int, Field(ge=10, le=10_000)] = 100
    quantization: Literal["none", "fp16", "byte"] = "none"
    bulk_rows: Annotated[int, Field(ge=1, le=10_000)] = 1000
    bulk_bytes: Annotated[int, Field(ge=1000, le=100_000_000)] = 4_000_000
    bulk_in_flight: Annotated[int, Field(ge=1, le=64)] = 2


def _short(default: str) -> BeforeValidator:
    """Lets a section be written as its kind alone (`index: opensearch`), a store as `s3://bucket/prefix`, and fills in
    the kind that a section leaves out."""

    def expand(value: Any) -> Any:
        if isinstance(value, str) and value.startswith("s3://"):
            bucket, _, prefix = value.removeprefix("s3://").partition("/")
            return {"kind": "s3", "bucket": bucket, "prefix": prefix.strip("/")}
        if isinstance(value, str):
            return {"kind": value}
        return {"kind": default, **value} if isinstance(value, dict) else value

    return BeforeValidator(expand)


StoreSettings = Annotated[LocalStoreSettings | S3StoreSettings, Field(discriminator="kind"), _short("local")]
IndexSettings = Annotated[LanceSettings | OpenSearchSettings, Field(discriminator="kind"), _short("lancedb")]


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


class SourceSettings(S3Connection):
    """A source that the sensors watch: at a `path` of this machine, or at a `url` (`s3://bucket/prefix`, of kind s3 or
    webdataset) of a service that is reached as the rest says."""

    name: str
    kind: Literal["folder", "manifest", "webdataset", "s3"] = "folder"
    path: Path | None = None
    url: str | None = None

    @model_validator(mode="before")
    @classmethod
    def _kind_of_url(cls, value: Any) -> Any:
        return {"kind": "s3", **value} if isinstance(value, dict) and "url" in value else value

    @model_validator(mode="after")
    def _one_place(self) -> SourceSettings:
        if (self.path is None) == (self.url is None):
            raise PydanticCustomError("place", "a source has either a `path` or a `url`")
        if self.kind not in (("s3", "webdataset") if self.url else ("folder", "manifest", "webdataset")):
            place = "url (s3://bucket/prefix)" if self.kind == "s3" else "path"
            raise PydanticCustomError("place", f"a source of kind {self.kind} has a {place}")
        if self.path and self.connection != S3Connection():
            raise PydanticCustomError("place", "endpoint, region, path_style and profile go with a `url`")
        return self

    @property
    def connection(self) -> S3Connection:
        """How the service of the `url` is reached."""
        return S3Connection(**{name: getattr(self, name) for name in S3Connection.model_fields})


class DatasetSettings(_Section):
    """A dataset that gold freezes and exports: a saved view (`name`, or `name@version` for good) and a filter that narrow
    gold, the shares of its splits and their seed (see refinery.splits), recipes for its shards (see datago.Recipe; `split`
    names one of the splits), and the file of rules that a new version must pass before it is exported (see refinery.gates)."""

    view: str | None = None
    filter: str | None = None
    splits: dict[str, float] | None = None
    split_seed: int = 0
    gate: Path | None = None
    exports: list[dict[str, Any]] = []


class Settings(_Section):
    """The whole of `refinery.yaml`."""

    store: StoreSettings = LocalStoreSettings()
    index: IndexSettings = LanceSettings()
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


_SHORT = reprlib.Repr()  # what YAML says in a line can be endless when written out
_SHORT.maxlevel, _SHORT.maxstring, _SHORT.maxother = 2, 200, 200


def validate(model: type[M], raw: Any, where: str) -> M:
    """`raw` as `model`; ConfigError in one sentence, with a suggestion for a misspelt key, when it does not fit."""
    try:
        return model.model_validate(raw)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        place = ".".join(str(part) for part in first["loc"]) or "the document"
        if first["type"] == "extra_forbidden":
            known = _keys(model, first["loc"][:-1])
            message = f"{where}: unknown key {place!r}.{did_you_mean(str(first['loc'][-1]), known)}"
        else:
            message = f"{where}: {place}: {first['msg']} (found {_SHORT.repr(first['input'])})."
        raise ConfigError(message, kind="bad_config") from None


def _keys(model: Any, loc: tuple[int | str, ...]) -> list[str]:
    """The keys that the section at `loc` may have. Within a section of several kinds, a part of `loc` is the kind."""
    for part in loc:
        fields = getattr(model, "model_fields", {})
        kinds = {m.model_fields["kind"].default: m for m in get_args(model) if hasattr(m, "model_fields")}
        model = fields[part].annotation if part in fields else kinds.get(part)
    return list(getattr(model, "model_fields", {}))
