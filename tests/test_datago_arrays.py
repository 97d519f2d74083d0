"""Arrays that datago hands over lie on memory that is used again, and never while somebody has them."""

from __future__ import annotations

import gc
import io

import numpy as np
import numpy.typing as npt
import pytest
from PIL import Image

import datago


def picture(value: int, size: tuple[int, int] = (320, 240)) -> bytes:
    out = io.BytesIO()
    Image.new("L", size, value).save(out, "png")
    return out.getvalue()


def jpeg(value: int, size: tuple[int, int]) -> bytes:
    out = io.BytesIO()
    Image.new("L", size, value).save(out, "jpeg")
    return out.getvalue()


def full(values: range) -> list[npt.NDArray[np.uint8] | None]:
    return datago.decode([picture(v) for v in values]).images


def place(array: npt.NDArray[np.uint8]) -> int:
    return int(array.__array_interface__["data"][0])


def test_an_array_keeps_its_pixels_while_others_come_and_go() -> None:
    kept = [a for a in full(range(0, 200, 10)) if a is not None]
    views = [a[5:9, ::2] for a in full(range(5, 205, 10)) if a is not None]
    for round_ in range(20):
        datago.decode([picture((7 * n + round_) % 256) for n in range(20)])
        datago.inspect([picture(1)] * 4, tensor_side=240)
    gc.collect()
    assert [int(a.min()) for a in kept] == [int(a.max()) for a in kept] == list(range(0, 200, 10))
    assert [int(v.min()) for v in views] == [int(v.max()) for v in views] == list(range(5, 205, 10))


def test_memory_is_used_again_once_nobody_has_it() -> None:
    # a size that no other test has
    data = [jpeg(3, (487, 311))]
    [first] = datago.decode(data).images
    assert first is not None
    was = place(first)
    view = first[10:]
    del first
    [other] = datago.decode(data).images
    assert other is not None
    assert place(other) != was  # a view is somebody
    del view
    [again] = datago.decode(data).images
    assert again is not None
    assert place(again) == was


def test_a_picture_that_fails_leaves_nothing_of_another_in_its_place() -> None:
    size = (64, 48)
    for _ in range(4):
        datago.decode([picture(255)] * 3, size=size)
        found = datago.decode([picture(9), b"no picture", picture(9)[:-30]], size=size)
        assert found.reason == [None, "not_an_image", "truncated"]
        assert [int(block.max()) for block in found.images] == [9, 0, 0]
        found_tensors = datago.inspect([b"no picture", picture(9)], tensor_side=48).tensors
        assert found_tensors is not None
        assert [int(t.max()) for t in found_tensors] == [0, 9]


@pytest.mark.parametrize("size", [None, (320, 240)])
def test_arrays_are_the_callers_to_write(size: tuple[int, int] | None) -> None:
    found = datago.decode([picture(9)], size=size)
    [array] = found.images
    assert array is not None
    assert array.flags.writeable
    assert array.flags.c_contiguous
    array[:] = 200
    assert int(array.min()) == 200
