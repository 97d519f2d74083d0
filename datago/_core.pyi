"""The Rust half of datago. Private: use `datago`."""

from collections.abc import Sequence
from os import PathLike
from typing import Any

import numpy as np
import numpy.typing as npt

from datago.recipe import Recipe
from datago.remote import S3Object
from datago.shards import Record

def inspect(
    inputs: Sequence[str | PathLike[str] | bytes | S3Object],
    *,
    thumbnail_side: int,
    tensor_side: int | None,
    tensor_fit: str,
    max_bytes: int,
    max_pixels: int,
    threads: int,
) -> tuple[
    dict[str, list[Any] | npt.NDArray[Any]], npt.NDArray[np.uint8] | None, list[tuple[str, float]]
]: ...
def probe(
    inputs: Sequence[str | PathLike[str] | bytes | S3Object], *, max_bytes: int, threads: int
) -> dict[str, Any]: ...
def decode(
    inputs: Sequence[str | PathLike[str] | bytes | S3Object],
    *,
    size: tuple[int, int] | None,
    max_bytes: int,
    max_pixels: int,
    threads: int,
) -> tuple[Any, dict[str, Any]]: ...
def write_shard(
    path: PathLike[str] | S3Object,
    bucket: tuple[int, int] | None,
    records: list[Record],
    recipe: Recipe,
    *,
    payload_names: list[str],
    max_bytes: int,
    max_pixels: int,
    threads: int,
) -> tuple[int, str, int, list[tuple[str, str, str]], str | None, list[tuple[str, float]]]: ...
def sizes(
    path: PathLike[str], format: str, compression: str | None, samples: int
) -> list[tuple[int, int]]: ...
def read(place: PathLike[str] | S3Object, *, max_bytes: int) -> bytes: ...

class Loader:
    def __init__(
        self, recipe: Recipe, *, threads: int, payloads: list[str], max_bytes: int, max_pixels: int
    ) -> None: ...
    def open(
        self,
        number: int,
        place: PathLike[str] | S3Object,
        format: str,
        compression: str | None,
        samples: int,
        digest: str | None,
    ) -> None: ...
    def release(self, number: int) -> None: ...
    def submit_rows(
        self,
        target: tuple[int, int] | None,
        shards: npt.NDArray[np.int64],
        rows: npt.NDArray[np.int64],
    ) -> None: ...
    def submit_records(self, target: tuple[int, int] | None, records: list[Record]) -> None: ...
    def next(
        self, timeout: float | None
    ) -> tuple[
        list[str],
        bytes,
        npt.NDArray[np.uint8] | None,
        list[bytes],
        list[list[bytes | None]],
        list[tuple[str, str, str]],
    ]: ...
    def seconds(self) -> tuple[list[tuple[str, float]], float]: ...
    def close(self) -> None: ...
