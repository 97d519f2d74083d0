"""The Rust half of datago. Private: use `datago`."""

from collections.abc import Sequence
from os import PathLike
from typing import Any

import numpy as np
import numpy.typing as npt

def inspect(
    inputs: Sequence[str | PathLike[str] | bytes],
    *,
    thumbnail_side: int,
    tensor_side: int | None,
    tensor_fit: str,
    max_bytes: int,
    max_pixels: int,
    threads: int,
) -> tuple[dict[str, list[Any] | npt.NDArray[Any]], npt.NDArray[np.uint8] | None]: ...
