"""Pictures as the viewer shows them: always decoded and encoded by us, never the bytes that came from outside."""

from __future__ import annotations

from collections.abc import Sequence

from refinery.blobs import blob_path, read_blob
from refinery.errors import InputError
from refinery.project import Refinery

_PICTURE_SIDE = 1600


def thumbnails(project: Refinery, sample_ids: Sequence[str]) -> dict[str, bytes | None]:
    """The thumbnail of each sample (as inspection made it: at most 256 pixels, JPEG); None without one."""
    found = project.facts.read(
        project.steps.inspect, sample_ids=sample_ids, columns=["sample_id", "thumbnail"]
    )
    known = dict(zip(*(column.to_pylist() for column in found.columns), strict=True))
    return {sample_id: known.get(sample_id) for sample_id in sample_ids}


def picture(project: Refinery, sample_id: str) -> bytes | None:
    """The picture at most 1600 pixels wide and high (JPEG), decoded under the caps of the inspection; None when it cannot
    be decoded or its bytes are not kept."""
    import datago

    path = blob_path(project.store, sample_id)
    local = str(path) if path is not None and path.is_file() else None
    source = local or kept_bytes(project, sample_id)
    if source is None:
        return None
    caps = project.settings.inspect
    result = datago.inspect(
        [source],
        thumbnail_side=_PICTURE_SIDE,
        max_bytes=caps.max_bytes,
        max_pixels=caps.max_pixels,
        threads=1,
    )
    found: bytes | None = result.columns["thumbnail"][0]
    return found


def kept_bytes(project: Refinery, digest: str) -> bytes | None:
    """The bytes with this digest; None when they are not kept."""
    try:
        return read_blob(project.store, digest)
    except InputError as error:
        if error.kind == "no_such_object":
            return None
        raise
