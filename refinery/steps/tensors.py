"""Tensors that inspect leaves for embed when the two run as separate processes: a scratch file per batch.

`<scratch>/tensors/<spec digest>/<batch>.npy` holds the pictures (n, side, side, 3) uint8, `<batch>.json` beside it
(written last) their sample ids and one digest over both. It is a cache outside the store: whatever is absent, torn or
of another spec is ignored, and embed decodes again.
"""

from __future__ import annotations

import json
import uuid
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import BinaryIO

import numpy as np
import numpy.typing as npt
from blake3 import blake3

from refinery.digests import canonical_json, digest_json
from refinery.embedders import TensorSpec
from refinery.steps.inspect import CODE_VERSION

_ROWS = 256


class SpillWriter:
    """Collects a batch's tensors as they are decoded: call it with (sample ids, tensors), use it in `with`.

    Leaving the block publishes the spill; leaving it by an exception leaves nothing behind.
    """

    def __init__(self, scratch: Path, spec: TensorSpec, batch: str) -> None:
        self._tensors, self._index = _paths(scratch, spec, batch)
        self._part = self._tensors.with_name(f"{self._tensors.name}.{uuid.uuid4().hex}")
        self._side = spec.side
        self._ids: list[str] = []
        self._hash = blake3()
        self._file: BinaryIO | None = None

    def __call__(self, sample_ids: list[str], tensors: npt.NDArray[np.uint8]) -> None:
        if self._file is None:
            raise ValueError("a spill is written inside its `with` block")
        block = np.ascontiguousarray(tensors)
        self._file.write(block.data)
        self._hash.update(block.data)
        self._ids.extend(sample_ids)

    def __enter__(self) -> SpillWriter:
        self._part.parent.mkdir(parents=True, exist_ok=True)
        self._index.unlink(missing_ok=True)
        self._file = self._part.open("xb")
        self._header(0)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        file, self._file = self._file, None
        try:
            if file is not None and kind is None and self._ids:
                self._file = file
                self._header(len(self._ids))
                file.close()
                self._part.replace(self._tensors)
                note = {"sample_ids": self._ids, "digest": _seal(self._hash, self._ids)}
                scratch = self._index.with_name(f"{self._index.name}.{uuid.uuid4().hex}")
                scratch.write_bytes(canonical_json(note))
                scratch.replace(self._index)
        finally:
            if file is not None:
                file.close()
            self._file = None
            self._part.unlink(missing_ok=True)

    def _header(self, rows: int) -> None:
        """Write the .npy header at the start of the file; numpy pads it, so its length does not depend on `rows`."""
        assert self._file is not None
        self._file.seek(0)
        shape = (rows, self._side, self._side, 3)
        header = {"descr": "|u1", "fortran_order": False, "shape": shape}
        np.lib.format.write_array_header_1_0(self._file, header)  # type: ignore[no-untyped-call]


def read_spill(
    scratch: Path, spec: TensorSpec, batch: str
) -> Iterator[tuple[list[str], npt.NDArray[np.uint8]]]:
    """The spilled (sample ids, tensors) of a batch, in blocks; nothing when there is no whole spill."""
    tensors, index = _paths(scratch, spec, batch)
    try:
        note = json.loads(index.read_bytes())
        ids: list[str] = note["sample_ids"]
        pictures = np.load(tensors, mmap_mode="r", allow_pickle=False)
        if pictures.shape != (len(ids), spec.side, spec.side, 3) or pictures.dtype != np.uint8:
            return
        seal = blake3()
        for start in range(0, len(ids), _ROWS):
            seal.update(np.ascontiguousarray(pictures[start : start + _ROWS]).data)
        if _seal(seal, ids) != note["digest"]:
            return
    except (OSError, ValueError, KeyError, TypeError):
        return
    for start in range(0, len(ids), _ROWS):
        yield ids[start : start + _ROWS], pictures[start : start + _ROWS]


def drop_spill(scratch: Path, spec: TensorSpec, batch: str) -> None:
    """Delete a batch's spill, when there is one."""
    for path in _paths(scratch, spec, batch)[::-1]:
        with suppress(FileNotFoundError):
            path.unlink()


def _paths(scratch: Path, spec: TensorSpec, batch: str) -> tuple[Path, Path]:
    folder = (
        scratch / "tensors" / digest_json({"side": spec.side, "fit": spec.fit, "inspect": CODE_VERSION})[:16]
    )
    return folder / f"{batch}.npy", folder / f"{batch}.json"


def _seal(pictures: blake3, sample_ids: list[str]) -> str:
    sealed = pictures.copy()
    sealed.update(canonical_json(sample_ids))
    return sealed.hexdigest()
