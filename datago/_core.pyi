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
