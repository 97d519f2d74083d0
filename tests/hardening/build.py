"""Pictures written byte by byte: what no encoder would write."""

from __future__ import annotations

import random
import struct
import zlib
from collections.abc import Iterable, Iterator, Sequence

SIGNATURE = b"\x89PNG\r\n\x1a\n"


# ---------------------------------------------------------------- PNG


def chunk(kind: bytes, body: bytes) -> bytes:
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))


def png_head(width: int, height: int, depth: int = 8, colour: int = 2, interlaced: int = 0) -> bytes:
    return SIGNATURE + chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, interlaced))


def zeros(count: int) -> bytes:
    """`count` zero bytes as a zlib stream, about a thousandth as long."""
    block = b""
    if count >> 20:
        packer = zlib.compressobj(9, zlib.DEFLATED, -15)
        block = packer.compress(bytes(1 << 20)) + packer.flush(zlib.Z_FULL_FLUSH)
    end = zlib.compressobj(9, zlib.DEFLATED, -15)
    rest = end.compress(bytes(count & (1 << 20) - 1)) + end.flush()
    return b"\x78\xda" + block * (count >> 20) + rest + struct.pack(">HH", count % 65_521, 1)


def png_row(width: int, depth: int, colour: int) -> int:
    samples = {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}[colour]
    return (width * samples * depth + 7) // 8 + 1


def black_png(width: int, height: int, depth: int = 8, colour: int = 2) -> bytes:
    body = zeros(png_row(width, depth, colour) * height)
    return png_head(width, height, depth, colour) + chunk(b"IDAT", body) + chunk(b"IEND", b"")


def png_chunks(data: bytes) -> Iterator[tuple[bytes, bytes]]:
    at = len(SIGNATURE)
    while at < len(data):
        (length,) = struct.unpack_from(">I", data, at)
        yield data[at + 4 : at + 8], data[at + 8 : at + 8 + length]
        at += 12 + length


def _rows(width: int, height: int, depth: int, colour: int, dice: random.Random) -> bytes:
    """Random bytes, each row with one of the five filters; palettes and padding do not mind."""
    size = png_row(width, depth, colour)
    return b"".join(bytes([y % 5]) + dice.randbytes(size - 1) for y in range(height)) if width else b""


def _png(width: int, height: int, depth: int, colour: int, interlaced: int, rows: bytes) -> bytes:
    palette = chunk(b"PLTE", random.Random(depth).randbytes(3 << depth)) if colour == 3 else b""
    head = png_head(width, height, depth, colour, interlaced)
    return head + palette + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")


def png_filtered(width: int, height: int, depth: int, colour: int) -> bytes:
    return _png(
        width, height, depth, colour, 0, _rows(width, height, depth, colour, random.Random(depth + colour))
    )


# first column and row, and the steps between them
ADAM7 = ((0, 0, 8, 8), (4, 0, 8, 8), (0, 4, 4, 8), (2, 0, 4, 4), (0, 2, 2, 4), (1, 0, 2, 2), (0, 1, 1, 2))


def png_interlaced(width: int, height: int, depth: int, colour: int) -> bytes:
    dice = random.Random(depth + colour)
    passes = [
        _rows(-(-(width - left) // across), -(-(height - top) // down), depth, colour, dice)
        for left, top, across, down in ADAM7
        if left < width and top < height
    ]
    return _png(width, height, depth, colour, 1, b"".join(passes))


# ---------------------------------------------------------------- JPEG

FULL = (0x11, 0x11, 0x11)
QUARTERED = (0x22, 0x11, 0x11)


def segment(marker: int, body: bytes) -> bytes:
    return struct.pack(">BBH", 0xFF, marker, len(body) + 2) + body


def huffman(kind: int, *symbols: int) -> bytes:
    """A table in which the first symbol is the code 0, the second 10, the third 110…"""
    counts = [1] * len(symbols) + [0] * (16 - len(symbols))
    return segment(0xC4, bytes([kind << 4, *counts, *symbols]))


def scan(components: Sequence[int], first: int, last: int, approximation: int, data: bytes) -> bytes:
    named = b"".join(bytes([c, 0]) for c in components)
    return segment(0xDA, bytes([len(components)]) + named + bytes([first, last, approximation])) + data


def jpeg(
    width: int,
    height: int,
    scans: Iterable[bytes],
    *,
    frame: int = 0xC0,
    sampling: Sequence[int] = (0x11,),
    tables: bytes = b"",
) -> bytes:
    """`tables` may replace the Huffman tables: of DC the symbol 0, of AC the end of the block, each one bit 0."""
    parts = b"".join(bytes([i + 1, s, 0]) for i, s in enumerate(sampling))
    head = segment(0xDB, bytes([0]) + b"\x01" * 64)
    head += segment(frame, struct.pack(">BHHB", 8, height, width, len(sampling)) + parts)
    return b"\xff\xd8" + head + (tables or huffman(0, 0) + huffman(1, 0)) + b"".join(scans) + b"\xff\xd9"


def blocks(width: int, height: int, sampling: Sequence[int] = (0x11,)) -> int:
    across, down = max(s >> 4 for s in sampling), max(s & 15 for s in sampling)
    units = -(-width // (8 * across)) * -(-height // (8 * down))
    return units * sum((s >> 4) * (s & 15) for s in sampling)


def bits(count: int) -> bytes:
    """That many zero bits, and some to spare."""
    return bytes(count // 8 + 1)


# ---------------------------------------------------------------- GIF


def gif_head(width: int, height: int, colours: int = 2) -> bytes:
    size = colours.bit_length() - 2
    return b"GIF89a" + struct.pack("<HHBBB", width, height, 0x80 | size, 0, 0) + bytes(3 * colours)


def gif_frame(width: int, height: int, data: bytes, code: int = 2) -> bytes:
    blocks = b"".join(bytes([len(data[i : i + 255])]) + data[i : i + 255] for i in range(0, len(data), 255))
    return b"," + struct.pack("<HHHHB", 0, 0, width, height, 0) + bytes([code]) + blocks + b"\0"


def lzw_zeros(count: int) -> bytes:
    """At least `count` pixels of index 0 as the longest strings that LZW can name: each code is one pixel longer."""
    out, held, filled, size = bytearray(), 0, 0, 3

    def put(value: int) -> None:
        nonlocal held, filled
        held |= value << filled
        filled += size
        while filled >= 8:
            out.append(held & 255)
            held >>= 8
            filled -= 8

    done = 0
    while done < count:
        put(4)
        size, code, length = 3, 6, 1
        put(0)
        done += 1
        while done < count and code < 4096:
            put(code)
            code, length = code + 1, length + 1
            done += length
            if code == 1 << size and size < 12:
                size += 1
    put(5)
    out.append(held & 255)
    return bytes(out)


# ---------------------------------------------------------------- BMP


def bmp(width: int, height: int, depth: int, compression: int, data: bytes, colours: int = 2) -> bytes:
    start = 54 + 4 * colours
    info = struct.pack("<IiiHHIIiiII", 40, width, height, 1, depth, compression, len(data), 0, 0, colours, 0)
    return b"BM" + struct.pack("<IHHI", start + len(data), 0, 0, start) + info + bytes(4 * colours) + data


# ---------------------------------------------------------------- TIFF

SHORT, LONG, UNDEFINED = 3, 4, 7
SIZES = {1: 1, 2: 1, SHORT: 2, LONG: 4, UNDEFINED: 1}


def tiff(tags: dict[int, tuple[int, Sequence[int]]], data: bytes = b"", next_directory: int = 0) -> bytes:
    """The data at offset 8, then the arrays, then the directory."""
    out = bytearray(data)
    entries = b""
    for tag, (kind, values) in sorted(tags.items()):
        letter = {1: "B", 2: "B", SHORT: "H", LONG: "I", UNDEFINED: "B"}[kind]
        packed = struct.pack(f"<{len(values)}{letter}", *values)
        if len(packed) <= 4:
            field = packed.ljust(4, b"\0")
        else:
            field = struct.pack("<I", 8 + len(out))
            out += packed
        entries += struct.pack("<HHI", tag, kind, len(values)) + field
    where = 8 + len(out)
    directory = struct.pack("<H", len(tags)) + entries + struct.pack("<I", next_directory)
    return b"II*\0" + struct.pack("<I", where) + bytes(out) + directory


def tiff_tags(
    width: int,
    height: int,
    offsets: Sequence[int],
    counts: Sequence[int],
    *,
    compression: int = 1,
    photometric: int = 1,
    samples: int = 1,
    depth: int = 8,
    rows: int | None = None,
    tile: tuple[int, int] | None = None,
) -> dict[int, tuple[int, Sequence[int]]]:
    tags: dict[int, tuple[int, Sequence[int]]] = {
        256: (LONG, [width]),
        257: (LONG, [height]),
        258: (SHORT, [depth] * min(samples, 4)),
        259: (SHORT, [compression]),
        262: (SHORT, [photometric]),
        277: (SHORT, [samples]),
    }
    if tile:
        tags |= {322: (LONG, [tile[0]]), 323: (LONG, [tile[1]])}
        return tags | {324: (LONG, offsets), 325: (LONG, counts)}
    return tags | {273: (LONG, offsets), 278: (LONG, [rows or height]), 279: (LONG, counts)}


# ---------------------------------------------------------------- WebP


def riff(*chunks: tuple[bytes, bytes]) -> bytes:
    body = b"WEBP" + b"".join(
        kind + struct.pack("<I", len(data)) + data + bytes(len(data) & 1) for kind, data in chunks
    )
    return b"RIFF" + struct.pack("<I", len(body)) + body


def vp8x(width: int, height: int, flags: int) -> tuple[bytes, bytes]:
    sides = struct.pack("<I", width - 1)[:3] + struct.pack("<I", height - 1)[:3]
    return b"VP8X", bytes([flags, 0, 0, 0]) + sides


def anmf(width: int, height: int, *chunks: tuple[bytes, bytes]) -> tuple[bytes, bytes]:
    sides = struct.pack("<I", width - 1)[:3] + struct.pack("<I", height - 1)[:3]
    inner = b"".join(
        kind + struct.pack("<I", len(data)) + data + bytes(len(data) & 1) for kind, data in chunks
    )
    return b"ANMF", bytes(6) + sides + bytes(4) + inner


class Bits:
    """Least significant bit first, as lossless WebP has them."""

    def __init__(self) -> None:
        self.value, self.count = 0, 0
        self.out = bytearray()

    def put(self, value: int, count: int) -> Bits:
        self.value |= value << self.count
        self.count += count
        while self.count >= 8:
            self.out.append(self.value & 255)
            self.value >>= 8
            self.count -= 8
        return self

    def data(self) -> bytes:
        return bytes(self.out) + bytes([self.value & 255])


def one_symbol(out: Bits, symbol: int = 0) -> None:
    """A prefix code of a single symbol of up to eight bits, which takes no bits where it is used."""
    out.put(1, 1).put(0, 1).put(1, 1).put(symbol, 8)


def vp8l_head(width: int, height: int) -> Bits:
    return Bits().put(0x2F, 8).put(width - 1, 14).put(height - 1, 14).put(0, 1).put(0, 3)


def black_vp8l(width: int, height: int) -> bytes:
    """All pixels one colour, in a handful of bytes."""
    out = vp8l_head(width, height).put(0, 1).put(0, 1).put(0, 1)
    for _ in range(5):
        one_symbol(out)
    return out.data() + bytes(8)
