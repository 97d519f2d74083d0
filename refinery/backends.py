"""The implementations of the ports that a project's settings name."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

from refinery.config import LanceSettings, LocalStoreSettings, S3StoreSettings, Settings
from refinery.store.local import LocalStore

if TYPE_CHECKING:
    from refinery.fields import Fields
    from refinery.index import SampleIndex
    from refinery.store import ObjectStore


def open_store(settings: Settings, project: Path, s3: Any = None) -> ObjectStore:
    """The object store of a project folder. `s3` is a boto3 client to use instead of one made from the settings."""
    if isinstance(settings.store, LocalStoreSettings):
        return LocalStore(project / settings.store.path)
    from refinery.store.s3 import S3Store

    return S3Store(settings.store, client=s3)


def store_at(place: str, endpoint: str | None = None) -> ObjectStore:
    """The object store at a folder or at `s3://bucket/prefix`, whose service is at `endpoint` when it is not AWS."""
    if not place.startswith("s3://"):
        return LocalStore(Path(place))
    from refinery.store.s3 import S3Store

    bucket, _, prefix = place.removeprefix("s3://").partition("/")
    return S3Store(S3StoreSettings(bucket=bucket, prefix=prefix.strip("/"), endpoint=endpoint))


def open_index(settings: Settings, project: Path, fields: Fields) -> SampleIndex:
    """The search index of a project folder. Nothing is connected before its first use."""
    if isinstance(settings.index, LanceSettings):
        from refinery.index.lancedb import LanceIndex

        return LanceIndex(project / settings.index.path, fields)
    from refinery.index.opensearch import OpenSearchIndex

    known = settings.index
    ca = project / known.ca if known.ca else None
    name = known.name or server_name(project)
    return OpenSearchIndex(known.model_copy(update={"name": name, "ca": ca}), fields)


def server_name(project: Path) -> str:
    """What a project folder is called where names are lower-case letters, digits, _ and -: at most 100 of them."""
    return re.sub(r"[^a-z0-9_-]+", "-", project.name.lower()).strip("-_")[:100] or "project"
