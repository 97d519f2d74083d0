"""Bombs that are JPEG or PNG."""

from __future__ import annotations

import struct
import zlib

from tests.hardening.build import (
    FULL,
    QUARTERED,
    bits,
    black_png,
    blocks,
    chunk,
    huffman,
    jpeg,
    png_head,
    scan,
    segment,
    zeros,
)
from tests.hardening.registry import HIGH, WIDE, bomb, sized_bomb

# ---------------------------------------------------------------- JPEG


@bomb(None)
def jpeg_at_the_cap() -> bytes:
    data = bits(2 * blocks(WIDE, HIGH, QUARTERED))
    return jpeg(WIDE, HIGH, [scan((1, 2, 3), 0, 63, 0, data)], sampling=QUARTERED)


@bomb(None, "too_costly")
def jpeg_dense_at_the_cap() -> bytes:
    tables = huffman(0, 0) + huffman(1, 1)
    data = bits(127 * blocks(WIDE, HIGH, FULL))
    return jpeg(WIDE, HIGH, [scan((1, 2, 3), 0, 63, 0, data)], sampling=FULL, tables=tables)


@bomb(None, "too_costly")
def jpeg_arithmetic_at_the_cap() -> bytes:
    return jpeg(WIDE, HIGH, [scan((1,), 0, 63, 0, bits(1 << 24))], frame=0xC9)


@bomb("too_costly")
def jpeg_progressive_full_colour_at_the_cap() -> bytes:
    data = bits(blocks(WIDE, HIGH, FULL))
    return jpeg(WIDE, HIGH, [scan((1, 2, 3), 0, 0, 0, data)], frame=0xC2, sampling=FULL)


def refined(side: int, times: int, dense: bool = False) -> bytes:
    """One scan for all coefficients, and many that refine them without a bit."""
    count = blocks(side, side)
    tables = huffman(0, 0) + huffman(1, *((1, 0xE0) if dense else (0xE0, 1)))
    first = scan((1,), 0, 0, 1, bits(count)) + scan(
        (1,), 1, 63, 1, bits(126 * count if dense else 15 * count)
    )
    if dense:
        # An end of band for 16384 blocks, then a correction bit for each coefficient.
        band = 0b10 << 14
        packed = b"".join(band.to_bytes(2, "big") + bytes(63 * 16384 // 8) for _ in range(count // 16384 + 1))
        again = scan((1,), 1, 63, 0x10, packed)
    else:
        again = scan((1,), 1, 63, 0x10, bits(15 * (count // 16384 + 1)))
    return jpeg(side, side, [first, again * times], frame=0xC2, tables=tables)


@bomb("too_costly")
def jpeg_many_scans_at_the_cap() -> bytes:
    return refined(WIDE, 400)


@bomb(None, "corrupt")
def jpeg_as_many_scans_as_allowed() -> bytes:
    return refined(2048, 480)


@bomb(None, "corrupt")
def jpeg_as_many_scans_as_its_pixels_allow() -> bytes:
    return refined(8192, 28)


@bomb(None, "corrupt", "too_costly", heavy=True)
def jpeg_dense_scans() -> bytes:
    return refined(4096, 100, dense=True)


@bomb("too_costly")
def jpeg_more_scans_than_allowed() -> bytes:
    return refined(64, 501)


@bomb("too_costly")
def jpeg_sequential_scans_of_one_component() -> bytes:
    data = bits(2 * blocks(WIDE, HIGH))
    return jpeg(WIDE, HIGH, [scan((1,), 0, 63, 0, data)] * 40, sampling=QUARTERED)


@bomb("too_many_pixels")
def jpeg_of_all_the_pixels_that_its_header_can_say() -> bytes:
    return jpeg(65_535, 65_535, [scan((1,), 0, 63, 0, b"\0")])


@bomb(None, "truncated", "corrupt")
def jpeg_as_wide_as_possible_and_one_high() -> bytes:
    return jpeg(65_535, 1, [scan((1,), 0, 63, 0, bits(2 * blocks(65_535, 1)))])


@bomb(None, "corrupt", "truncated")
def jpeg_four_by_four_sampling_of_one_column() -> bytes:
    sampling = (0x44, 0x11, 0x11)
    data = bits(blocks(1, 65_535, sampling))
    return jpeg(1, 65_535, [scan((1, 2, 3), 0, 0, 0, data)], frame=0xC2, sampling=sampling)


@sized_bomb(None, "truncated", "corrupt")
def jpeg_of_empty_segments(size: int) -> bytes:
    head = b"\xff\xd8" + segment(0xEB, b"") * (size // 4)
    return head + jpeg(8, 8, [scan((1,), 0, 63, 0, b"\0")])[2:]


@sized_bomb("corrupt", "truncated", "too_costly")
def jpeg_of_restart_markers(size: int) -> bytes:
    return jpeg(2048, 2048, [scan((1,), 0, 63, 0, b"\xff\xd0" * (size // 2))])


@bomb(None, "truncated", "corrupt")
def jpeg_of_exif_that_points_at_itself() -> bytes:
    loop = b"II*\0\x08\0\0\0" + struct.pack("<H", 65_535) + struct.pack("<HHII", 0x8769, 4, 1, 8) * 5000
    parts = segment(0xE1, b"Exif\0\0" + loop + struct.pack("<I", 8)) * 1000
    return b"\xff\xd8" + parts + jpeg(8, 8, [scan((1,), 0, 63, 0, b"\0")])[2:]


# ---------------------------------------------------------------- PNG


@bomb(None)
def png_at_the_cap() -> bytes:
    return black_png(WIDE, HIGH)


@bomb("too_costly")
def png_of_sixteen_bits_and_alpha_at_the_cap() -> bytes:
    return black_png(WIDE, HIGH, 16, 6)


@bomb(None, "too_costly")
def png_of_alpha_at_its_cap() -> bytes:
    return black_png(11_000, 11_000, 8, 6)


@bomb(None)
def png_interlaced_at_the_cap() -> bytes:
    body = chunk(b"IDAT", zeros(WIDE * HIGH // 6))
    return png_head(WIDE, HIGH, 1, 0, 1) + body + chunk(b"IEND", b"")


@bomb("too_many_pixels")
def png_of_all_the_pixels_that_its_header_can_say() -> bytes:
    return png_head(2**31 - 1, 2**31 - 1) + chunk(b"IDAT", zeros(1000)) + chunk(b"IEND", b"")


@bomb("too_many_pixels")
def png_of_one_row() -> bytes:
    return black_png(100_000_000, 1, 8, 0)


@bomb("too_many_pixels")
def png_of_one_column() -> bytes:
    return black_png(1, 100_000_000, 1, 0)


@bomb(None)
def png_of_the_longest_row() -> bytes:
    return black_png(1 << 20, 1, 16, 6)


@bomb(None)
def png_of_the_longest_column() -> bytes:
    return black_png(1, 1 << 20, 16, 6)


@bomb("corrupt")
def png_whose_stream_goes_on_for_ever() -> bytes:
    body = zlib.compress(bytes(100 << 20), 9)
    inside = body[2:-6]
    stream = body[:2] + inside[: len(inside) // 2] * 500
    return png_head(8, 8) + chunk(b"IDAT", stream) + chunk(b"IEND", b"")


@sized_bomb("corrupt")
def png_whose_stream_is_of_empty_blocks(size: int) -> bytes:
    stream = b"\x78\x01" + b"\0\0\0\xff\xff" * (size // 5)
    return png_head(8, 8) + chunk(b"IDAT", stream) + chunk(b"IEND", b"")


@sized_bomb("too_costly")
def png_of_empty_chunks(size: int) -> bytes:
    body = chunk(b"IDAT", zlib.compress(bytes(100)))
    return png_head(4, 4) + chunk(b"abCd", b"") * (size // 12) + body + chunk(b"IEND", b"")


@bomb("too_costly")
def png_of_bytes_each_in_a_chunk() -> bytes:
    stream = zeros(3 << 20)
    parts = (
        b"".join(chunk(b"IDAT", stream[i : i + 1]) for i in range(len(stream)))
        + chunk(b"IDAT", b"") * 300_000
    )
    return png_head(1024, 1024) + parts + chunk(b"IEND", b"")


@bomb(None, "corrupt")
def png_of_compressed_texts() -> bytes:
    text = chunk(b"zTXt", b"a\0\0" + zlib.compress(bytes(50 << 20), 9))
    profile = chunk(b"iCCP", b"a\0\0" + zlib.compress(bytes(200 << 20), 9))
    return black_png(4, 4)[:33] + profile + text * 1000 + black_png(4, 4)[33:]


@sized_bomb(None, "corrupt")
def png_of_exif_as_large_as_the_file(size: int) -> bytes:
    return black_png(4, 4)[:33] + chunk(b"eXIf", bytes(size)) + black_png(4, 4)[33:]


@sized_bomb("corrupt")
def png_of_a_giant_palette(size: int) -> bytes:
    small = black_png(4, 4, 8, 3)
    return small[:33] + chunk(b"PLTE", bytes(3 * (size // 3))) + small[33:]


@bomb(None)
def apng_of_many_frames() -> bytes:
    small = black_png(64, 64, 8, 0)
    control = chunk(b"acTL", struct.pack(">II", 40_000, 0))
    body = zeros(65 * 64)
    frames = [
        chunk(b"fcTL", struct.pack(">IIIIIHHBB", n, 64, 64, 0, 0, 1, 1, 0, 0))
        + chunk(b"fdAT", struct.pack(">I", n + 1) + body)
        for n in range(1, 80_000, 2)
    ]
    first = chunk(b"fcTL", struct.pack(">IIIIIHHBB", 0, 64, 64, 0, 0, 1, 1, 0, 0))
    return small[:33] + control + first + small[33:-12] + b"".join(frames) + small[-12:]
