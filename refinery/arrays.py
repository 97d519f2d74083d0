"""Arrays in files that came from outside: read without unpickling, and any damage answered as one error."""

from __future__ import annotations

import io
from typing import Any

import numpy as np
import numpy.typing as npt


def npy_array(data: bytes) -> npt.NDArray[Any]:
    """The array of a .npy file. ValueError, shortly said, for anything else: pickled objects are never opened.

    Unlike `numpy.load` it takes no archive for an array, and whatever a damaged header makes numpy raise (SyntaxError,
    TokenError, MemoryError for a size that it only claims to have) is a ValueError.
    """
    try:
        array: npt.NDArray[Any] = np.lib.format.read_array(io.BytesIO(data), allow_pickle=False)  # type: ignore[no-untyped-call]
    except Exception as error:
        raise ValueError(f"{error!s:.200}" or type(error).__name__) from error
    return array
