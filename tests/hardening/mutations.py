"""Malformed pictures: accidents and lies, each a pure function of a picture, another one, and the dice."""

from __future__ import annotations

import random
import struct
import zlib
from collections.abc import Callable, Iterator

from tests.hardening.build import SIGNATURE, chunk, png_chunks
from tests.hardening.seeds import seeds

Mutation = Callable[[bytes, bytes, random.Random], bytes]
MUTATIONS: dict[str, Mutation] = {}
LIES = (
    0,
    1,
    2,
    3,
    4,
    7,
    0x7F,
    0x80,
    0xFF,
    0x7FFF,
    0x8000,
    0xFFFE,
    0xFFFF,
    0x10000,
    0x7FFFFFFF,
    0x80000000,
    0xFFFFFFFF,
)


def mutation(made: Mutation) -> Mutation:
    MUTATIONS[made.__name__] = made
    return made


@mutation
def cut_short(data: bytes, _other: bytes, dice: random.Random) -> bytes:
    return data[: dice.randrange(len(data))]


@mutation
def one_bit_flipped(data: bytes, _other: bytes, dice: random.Random) -> bytes:
    out = bytearray(data)
    out[dice.randrange(len(out))] ^= 1 << dice.randrange(8)
    return bytes(out)


@mutation
def many_bits_flipped(data: bytes, _other: bytes, dice: random.Random) -> bytes:
    out = bytearray(data)
    for _ in range(dice.randint(2, 30)):
        out[dice.randrange(len(out))] ^= 1 << dice.randrange(8)
    return bytes(out)


@mutation
def a_run_of_one_byte(data: bytes, _other: bytes, dice: random.Random) -> bytes:
    at, length = dice.randrange(len(data)), dice.randint(1, 200)
    return (
        data[:at] + bytes([dice.choice((0, 0xFF, 0x80, dice.randrange(256)))]) * length + data[at + length :]
    )


@mutation
def random_bytes(data: bytes, _other: bytes, dice: random.Random) -> bytes:
    at, length = dice.randrange(len(data)), dice.randint(1, 60)
    return data[:at] + dice.randbytes(length) + data[at + length :]


@mutation
def a_number_that_lies(data: bytes, _other: bytes, dice: random.Random) -> bytes:
    """Two or four bytes of either order, near the start as a rule: sizes, lengths, offsets, counts."""
    out = bytearray(data)
    at = dice.randrange(min(len(out), dice.choice((40, 120, len(out)))))
    kind = dice.choice(("<H", ">H", "<I", ">I"))
    number = dice.choice(LIES) & (0xFFFF if kind.endswith("H") else 0xFFFFFFFF)
    packed = struct.pack(kind, number)
    out[at : at + len(packed)] = packed
    return bytes(out)


@mutation
def a_number_off_by_a_little(data: bytes, _other: bytes, dice: random.Random) -> bytes:
    out = bytearray(data)
    at = dice.randrange(min(len(out), dice.choice((40, 120, len(out)))))
    out[at] = (out[at] + dice.choice((-2, -1, 1, 2))) & 255
    return bytes(out)


@mutation
def a_part_twice(data: bytes, _other: bytes, dice: random.Random) -> bytes:
    at, length = dice.randrange(len(data)), dice.randint(1, 400)
    return data[: at + length] + data[at : at + length] * dice.randint(1, 4) + data[at + length :]


@mutation
def a_part_missing(data: bytes, _other: bytes, dice: random.Random) -> bytes:
    at = dice.randrange(len(data))
    return data[:at] + data[at + dice.randint(1, 100) :]


@mutation
def two_parts_exchanged(data: bytes, _other: bytes, dice: random.Random) -> bytes:
    a, b, c, d = sorted(dice.randrange(len(data)) for _ in range(4))
    return data[:a] + data[c:d] + data[b:c] + data[a:b] + data[d:]


@mutation
def spliced_with_another(data: bytes, other: bytes, dice: random.Random) -> bytes:
    return data[: dice.randrange(len(data))] + other[dice.randrange(len(other)) :]


@mutation
def another_within(data: bytes, other: bytes, dice: random.Random) -> bytes:
    at = dice.randrange(len(data))
    return data[:at] + other + data[at:]


@mutation
def rubbish_behind(data: bytes, other: bytes, dice: random.Random) -> bytes:
    return data + dice.choice((bytes(500), dice.randbytes(500), other, data))


# those that need not understand what they break
PLAIN = list(MUTATIONS)


@mutation
def a_piece_of_the_format_moved(data: bytes, other: bytes, dice: random.Random) -> bytes:
    """Chunks, segments and blocks dropped, doubled, exchanged or given to another of their kind, with right checksums."""
    pieces = _pieces(data)
    if len(pieces) < 2:
        return a_part_twice(data, other, dice)
    at = dice.randrange(len(pieces))
    match dice.randrange(5):
        case 0:
            del pieces[at]
        case 1:
            pieces.insert(dice.randrange(len(pieces)), pieces[at])
        case 2:
            dice.shuffle(pieces)
        case 3:
            pieces[at:at] = [pieces[at]] * dice.randint(2, 40)
        case _:
            foreign = _pieces(other) or [b""]
            pieces.insert(at, dice.choice(foreign))
    head = SIGNATURE if data.startswith(SIGNATURE) else data[: 12 if data.startswith(b"RIFF") else 2]
    return head + b"".join(pieces)


@mutation
def a_png_chunk_with_a_right_checksum(data: bytes, other: bytes, dice: random.Random) -> bytes:
    """Checksums hide what lies behind them from plain accidents."""
    if not data.startswith(SIGNATURE):
        return many_bits_flipped(data, other, dice)
    chunks = list(png_chunks(data))
    at = dice.randrange(len(chunks))
    kind, body = chunks[at]
    if kind == b"IDAT" and body[:1] == b"\x78" and dice.random() < 0.7:
        body = zlib.compress(many_bits_flipped(zlib.decompressobj().decompress(body), other, dice))
    elif body:
        body = dice.choice((one_bit_flipped, a_number_that_lies, cut_short))(body, other, dice)
    chunks[at] = (kind, body)
    return SIGNATURE + b"".join(chunk(kind, body) for kind, body in chunks)


def _pieces(data: bytes) -> list[bytes]:
    """The chunks of a PNG or WebP, or the segments of a JPEG."""
    if data.startswith(SIGNATURE):
        try:
            return [chunk(kind, body) for kind, body in png_chunks(data)]
        except struct.error:
            return []
    out, at = [], 2
    if data.startswith(b"RIFF"):
        at = 12
        while at + 8 <= len(data):
            (length,) = struct.unpack_from("<I", data, at + 4)
            step = 8 + length + (length & 1)
            out.append(data[at : at + step])
            at += step
    elif data.startswith(b"\xff\xd8"):
        while at + 4 <= len(data) and data[at + 1] != 0xDA:
            (length,) = struct.unpack_from(">H", data, at + 2)
            out.append(data[at : at + 2 + length])
            at += 2 + length
        out.append(data[at:])
    return out


def malformed(count: int, seed: int = 0) -> Iterator[tuple[str, bytes]]:
    """`count` pictures with a name each: every kind of picture, every mutation, in turn; every tenth twice mutated."""
    names, mutations = list(seeds()), list(MUTATIONS)
    for number in range(count):
        dice = random.Random(f"{seed} {number}")
        name, how = names[number % len(names)], mutations[number // len(names) % len(mutations)]
        data = MUTATIONS[how](seeds()[name], seeds()[dice.choice(names)], dice)
        if number % 10 == 9 and data:
            data = MUTATIONS[dice.choice(PLAIN)](data, seeds()[dice.choice(names)], dice)
        yield f"{number} {name}, {how}", data


def prefixes(count: int) -> Iterator[tuple[str, bytes]]:
    """`count` pictures cut short, spread over every place of every picture."""
    total = sum(map(len, seeds().values()))
    step = max(1, total // count)
    place, left = 0, count
    for name, data in seeds().items():
        while place < len(data) and left:
            yield f"{name}, the first {place} bytes", data[:place]
            place, left = place + step, left - 1
        place -= len(data)
