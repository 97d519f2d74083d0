"""Bombs of the other formats, and of none."""

from __future__ import annotations

import io
import struct
import zlib

from PIL import Image

from tests.hardening.bombs_jpeg_png import refined
from tests.hardening.build import (
    LONG,
    SHORT,
    UNDEFINED,
    Bits,
    anmf,
    bits,
    black_vp8l,
    blocks,
    bmp,
    gif_frame,
    gif_head,
    jpeg,
    lzw_zeros,
    one_symbol,
    riff,
    scan,
    tiff,
    tiff_tags,
    vp8l_head,
    vp8x,
    zeros,
)
from tests.hardening.registry import HIGH, WIDE, bomb, sized_bomb

# ---------------------------------------------------------------- GIF


@bomb(None, "too_costly")
def gif_at_its_cap() -> bytes:
    return gif_head(10_500, 10_500) + gif_frame(10_500, 10_500, lzw_zeros(10_500 * 10_500)) + b";"


@bomb("too_costly")
def gif_at_the_cap() -> bytes:
    return gif_head(WIDE, HIGH) + gif_frame(WIDE, HIGH, lzw_zeros(WIDE * HIGH)) + b";"


@bomb("too_many_pixels")
def gif_of_all_the_pixels_that_its_header_can_say() -> bytes:
    return gif_head(65_535, 65_535) + gif_frame(1, 1, lzw_zeros(1)) + b";"


@bomb("corrupt", "too_costly")
def gif_whose_frame_is_larger_than_its_canvas() -> bytes:
    return gif_head(8, 8) + gif_frame(65_535, 65_535, lzw_zeros(1 << 20)) + b";"


@bomb(None, "corrupt")
def gif_whose_frame_goes_on_for_ever() -> bytes:
    return gif_head(8, 8) + gif_frame(8, 8, lzw_zeros(400 << 20)) + b";"


@bomb(None)
def gif_of_a_million_frames() -> bytes:
    return gif_head(8, 8) + gif_frame(8, 8, lzw_zeros(64)) * 1_000_000 + b";"


@bomb("corrupt")
def gif_of_a_million_frames_without_area() -> bytes:
    return gif_head(8, 8) + gif_frame(0, 0, b"") * 1_000_000 + b";"


@sized_bomb(None)
def gif_of_tiny_comments(size: int) -> bytes:
    comments = b"!\xfe" + b"\x01 " * (size // 2) + b"\0"
    return gif_head(8, 8) + comments + gif_frame(8, 8, lzw_zeros(64)) + b";"


@sized_bomb(None, "corrupt")
def gif_of_stray_bytes(size: int) -> bytes:
    return gif_head(8, 8) + bytes(size) + gif_frame(8, 8, lzw_zeros(64)) + b";"


@sized_bomb(None)
def gif_of_metadata_as_large_as_the_file(size: int) -> bytes:
    part = b"\xff" + b"x" * 255
    return (
        gif_head(8, 8)
        + b"!\xff\x0bXMP DataXMP"
        + part * (size // 256)
        + b"\0"
        + gif_frame(8, 8, lzw_zeros(64))
        + b";"
    )


@sized_bomb("too_costly")
def gif_of_clear_codes(size: int) -> bytes:
    # 100 100 100…: the table is emptied again and again.
    return gif_head(64, 64) + gif_frame(64, 64, bytes([0x24, 0x49, 0x92]) * (size // 3)) + b";"


@bomb("too_costly", "truncated", "corrupt")
def gif_of_as_many_clear_codes_as_allowed() -> bytes:
    return gif_head(9000, 9000) + gif_frame(9000, 9000, bytes([0x24, 0x49, 0x92]) * (40 << 20)) + b";"


# ---------------------------------------------------------------- BMP


@bomb(None, "truncated", "corrupt")
def bmp_of_run_lengths_at_the_cap() -> bytes:
    return bmp(WIDE, HIGH, 8, 1, (b"\xff\0" * (WIDE // 255) + b"\0\0") * HIGH + b"\0\1")


@bomb(None, "truncated", "corrupt")
def bmp_of_four_bit_run_lengths_that_end_at_once() -> bytes:
    return bmp(WIDE, HIGH, 4, 2, b"\0\1")


@sized_bomb(None, "corrupt", "truncated")
def bmp_of_moves_that_lead_nowhere(size: int) -> bytes:
    return bmp(64, 64, 8, 1, b"\0\2\0\0" * (size // 4))


@bomb("too_many_pixels")
def bmp_of_all_the_pixels_that_its_header_can_say() -> bytes:
    return bmp(2**31 - 1, 2**31 - 1, 1, 1, b"\0\1")


@bomb("corrupt", "too_many_pixels", "truncated")
def bmp_of_a_negative_height() -> bytes:
    return bmp(1, -(2**31), 8, 1, b"\0\1")


@bomb(None, "truncated")
def bmp_of_one_bit_at_the_cap() -> bytes:
    return bmp(13_376, 13_376, 1, 0, bytes(13_376 // 8 * 13_376))


# ---------------------------------------------------------------- TIFF


def strips(
    width: int, height: int, rows: int, one: bytes, compression: int, samples: int = 1, depth: int = 8
) -> bytes:
    """Every strip is the same bytes of the file."""
    count = -(-height // rows)
    tags = tiff_tags(
        width,
        height,
        [8] * count,
        [len(one)] * count,
        compression=compression,
        photometric=2 if samples >= 3 else 1,
        samples=samples,
        depth=depth,
        rows=rows,
    )
    return tiff(tags, one)


@bomb(None, "corrupt", "too_costly")
def tiff_deflated_at_the_cap() -> bytes:
    return strips(WIDE, HIGH, HIGH, zeros(WIDE * HIGH * 3), 8, 3)


@bomb("too_costly")
def tiff_of_sixteen_bits_and_alpha_at_the_cap() -> bytes:
    return strips(WIDE, HIGH, HIGH, zeros(1 << 20), 8, 4, 16)


@bomb("too_costly")
def tiff_of_a_million_strips() -> bytes:
    return strips(1, 1_000_000, 1, zeros(1), 8)


@bomb(None, "corrupt", "truncated")
def tiff_of_as_many_strips_as_allowed() -> bytes:
    return strips(8, 130_000, 1, zeros(8), 8)


@sized_bomb("corrupt", "truncated", "too_costly")
def tiff_of_overlapping_strips_of_empty_blocks(size: int) -> bytes:
    return strips(8, 60_000, 1, b"\x78\x01" + b"\0\0\0\xff\xff" * (size // 5) + zeros(8)[2:], 8)


@sized_bomb("corrupt", "truncated", "too_costly")
def tiff_of_overlapping_strips_of_no_operations(size: int) -> bytes:
    return strips(8, 60_000, 1, b"\x80" * size + b"\x07" + bytes(8), 32773)


@bomb("too_costly", "corrupt")
def tiff_of_tiles_larger_than_the_picture() -> bytes:
    data = zeros(1 << 20)
    return tiff(tiff_tags(1, 1000, [8], [len(data)], compression=8, tile=(1 << 30, 1008)), data)


@bomb("too_costly", "corrupt", "unsupported_format")
def tiff_of_sixty_thousand_samples() -> bytes:
    tags = tiff_tags(10_000, 10_000, [8], [100], compression=8, photometric=2, samples=60_000)
    return tiff(tags | {338: (SHORT, [0] * 59_997)}, zeros(1000))


@bomb("too_many_pixels", "corrupt", "too_costly")
def tiff_of_all_the_pixels_that_its_header_can_say() -> bytes:
    return tiff(tiff_tags(2**32 - 1, 2**32 - 1, [8], [100]), bytes(100))


@bomb("truncated", "corrupt", "too_costly")
def tiff_whose_strip_table_is_as_large_as_the_file() -> bytes:
    count = 30 << 20
    out = bytearray(tiff(tiff_tags(1, count, [8], [1], rows=1), b"\0"))
    for tag in (273, 279):
        at = out.index(struct.pack("<HHI", tag, LONG, 1))
        struct.pack_into("<II", out, at + 4, count, 8)
    return bytes(out) + bytes(4 * count)


@bomb(None, "corrupt")
def tiff_whose_directories_form_a_circle() -> bytes:
    data = tiff(tiff_tags(8, 8, [8], [64]), bytes(64))
    return data[:-4] + data[4:8]


@bomb(None, "corrupt", "truncated")
def tiff_with_sixty_thousand_tags() -> bytes:
    tags = tiff_tags(8, 8, [8], [64])
    return tiff(tags | {n: (UNDEFINED, [0, 0, 0, 0]) for n in range(1000, 61_000)}, bytes(64))


@bomb("corrupt", "truncated", "too_costly", None)
def tiff_lzw_at_the_cap() -> bytes:
    with io.BytesIO() as out:
        Image.new("L", (4096, 4096)).save(out, "tiff", compression="tiff_lzw")
        found = out.getvalue()
    with Image.open(io.BytesIO(found)) as image:
        tags = dict(image.tag_v2)  # type: ignore[attr-defined]
    start, length = tags[273][0], tags[279][0]
    return strips(4096, 43_000, tags[278], found[start : start + length], 5)


@bomb("corrupt")
def tiff_of_jpegs_larger_than_their_strips() -> bytes:
    inside = jpeg(16_384, 8192, [scan((1,), 0, 63, 0, bits(2 * blocks(16_384, 8192)))])
    return strips(8, 8000, 8, inside, 7)


@bomb(None, "too_costly", "corrupt")
def tiff_of_jpegs_of_many_scans() -> bytes:
    return strips(2048, 40_960, 2048, refined(2048, 480), 7)


@bomb(None, "corrupt", "truncated", "unsupported_format")
def tiff_of_fax_at_the_cap() -> bytes:
    return strips(WIDE, HIGH, HIGH, b"\xff" * (HIGH // 8 + 2), 4, depth=1)


# ---------------------------------------------------------------- WebP


@bomb(None, "too_costly")
def webp_lossless_at_the_cap() -> bytes:
    return riff((b"VP8L", black_vp8l(WIDE, HIGH)))


@bomb(None)
def webp_lossless_at_its_cap() -> bytes:
    return riff((b"VP8L", black_vp8l(11_500, 11_500)))


@bomb("too_many_pixels", "corrupt")
def webp_lossless_of_all_the_pixels_that_its_header_can_say() -> bytes:
    return riff((b"VP8L", black_vp8l(16_384, 16_384)))


def lossy(side: int) -> bytes:
    with io.BytesIO() as out:
        Image.new("L", (64, 64)).convert("RGB").save(out, "webp", quality=1)
        found = out.getvalue()
    frame = bytearray(found[20:])
    struct.pack_into("<HH", frame, 6, side, side)
    return bytes(frame)


@bomb(None, "too_costly", "truncated", "corrupt")
def webp_lossy_at_the_cap() -> bytes:
    return riff((b"VP8 ", lossy(WIDE) + bytes(1 << 20)))


@bomb(None, "too_costly", heavy=True)
def webp_lossy_as_large_as_can_be() -> bytes:
    with io.BytesIO() as out:
        Image.effect_noise((8192, 8192), 60).convert("RGB").save(out, "webp", quality=85, method=0)
        return out.getvalue()


@bomb("too_costly", "corrupt", "truncated")
def webp_lossy_with_alpha_at_the_cap() -> bytes:
    alpha = black_vp8l(WIDE, HIGH)[5:]
    return riff(vp8x(WIDE, HIGH, 0x10), (b"ALPH", b"\x01" + alpha), (b"VP8 ", lossy(WIDE) + bytes(1 << 20)))


@bomb("too_costly", "corrupt")
def webp_animated_at_the_cap() -> bytes:
    frame = anmf(WIDE, HIGH, (b"VP8L", black_vp8l(WIDE, HIGH)))
    return riff(vp8x(WIDE, HIGH, 0x12), (b"ANIM", bytes(6)), frame)


@bomb("too_many_pixels", "corrupt")
def webp_of_a_canvas_of_all_the_pixels_that_its_header_can_say() -> bytes:
    return riff(vp8x(1 << 24, 1 << 24, 0x10), (b"VP8L", black_vp8l(16, 16)))


@bomb("corrupt", "too_costly", "truncated")
def webp_whose_frame_is_larger_than_its_canvas() -> bytes:
    return riff(vp8x(16, 16, 0), (b"VP8 ", lossy(16_383) + bytes(1 << 20)))


@sized_bomb("too_costly", "corrupt")
def webp_of_empty_chunks(size: int) -> bytes:
    found = riff(vp8x(16, 16, 0), (b"VP8L", black_vp8l(16, 16)))
    filled = found[:30] + b"abcd\0\0\0\0" * (size // 8) + found[30:]
    return filled[:4] + struct.pack("<I", len(filled) - 8) + filled[8:]


@bomb("too_costly", "corrupt")
def webp_of_many_frames() -> bytes:
    frame = anmf(16, 16, (b"VP8L", black_vp8l(16, 16)))
    return riff(vp8x(16, 16, 0x12), (b"ANIM", bytes(6)), *[frame] * 1_000_000)


def deep_code(out: Bits) -> None:
    """A prefix code with lengths 1, 2, … 10, 10 of eleven symbols: its table has 1,024 entries."""
    # Lengths are coded with five bits each, all 16 of them and no repeats.
    out.put(0, 1).put(15, 4)
    for repeat_or_length in "rr000000r0000000000":
        out.put(0 if repeat_or_length == "r" else 4, 3)
    # Of all symbols only the first eleven are told.
    out.put(1, 1).put(1, 3).put(9, 4)
    for length in (1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 10):
        out.put(int(f"{length:04b}"[::-1], 2), 4)


@bomb("too_costly", "corrupt")
def webp_of_sixty_thousand_prefix_codes() -> bytes:
    """The image that says which codes hold where names the last of 65,536 groups, so all are read."""
    out = vp8l_head(1024, 1024).put(0, 1).put(0, 1).put(1, 1).put(0, 3)
    # That image: red and green say the group; each is one symbol, so no bits follow.
    out.put(0, 1)
    for symbol in (255, 255, 0, 0, 0):
        one_symbol(out, symbol)
    start = len(out.out) + 1
    # Eight groups are a whole number of bytes, so the stream repeats itself.
    for _ in range(16 * 5):
        deep_code(out)
    unit = bytes(out.out[start : start + 570])
    return riff((b"VP8L", bytes(out.out[:start]) + unit * 8192 + bytes(1 << 16)))


# ---------------------------------------------------------------- anything


@bomb("unsupported_format", "not_an_image")
def a_zip_in_a_zip() -> bytes:
    return b"PK\x03\x04" + zlib.compress(zlib.compress(bytes(200 << 20), 9), 9)


@sized_bomb("not_an_image")
def nothing_but_zeros(size: int) -> bytes:
    return bytes(size)
