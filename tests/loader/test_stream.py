"""Streams of local exports: every sample once, as it was stored, the same in every format and with any threads."""

from __future__ import annotations

import json
import pickle
import subprocess
import sys
from collections import Counter
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import datago
from datago import (
    ConfigError,
    CorruptionError,
    InputError,
    Recipe,
    StorageError,
    StreamTimeoutError,
)
from tests.loader.exports import COUNT, FORMATS, export, ids, picture, pictures, recipe_of, record, stream


@pytest.fixture(scope="module")
def exports(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("exports")
    return {form: export(folder / form, COUNT, recipe_of(form)) for form in FORMATS}


@pytest.mark.parametrize("form", FORMATS)
@pytest.mark.parametrize("threads", [1, 3])
def test_every_sample_comes_once_as_it_was_stored(exports: dict[str, Path], form: str, threads: int) -> None:
    seen = Counter[str]()
    for batch in stream(exports[form], threads=threads, payloads=["latent"]):
        assert batch.images is not None
        assert batch.images.shape == (len(batch), *batch.images.shape[1:3], 3)
        assert (str(batch.images.dtype), batch.images.flags.c_contiguous) == ("uint8", True)
        assert batch.failures == []
        for n, sample_id in enumerate(batch.ids):
            number = int(sample_id[1:])
            assert (batch.images[n] == picture(number)[0, 0]).all()
            assert batch.attributes[n] == json.loads(record(number).attributes)
            assert batch.payloads["latent"][n] == (b"latent %d" % number if number % 2 else None)
        seen.update(batch.ids)
    assert seen == Counter({f"s{n:05}": 1 for n in range(COUNT)})


def test_the_order_is_one_in_all_formats_and_straight_from_the_pictures(exports: dict[str, Path]) -> None:
    plain = recipe_of("mds")
    told = [ids(stream(exports[form])) for form in FORMATS]
    told += [ids(stream(pictures(COUNT), recipe=plain)), ids(stream(exports["mds"], threads=5, prefetch=1))]
    assert all(other == told[0] for other in told)
    blocks = [
        [b.images for b in stream(source, recipe=recipe)]
        for source, recipe in ((exports["parquet"], None), (pictures(COUNT), plain))
    ]
    for ours, theirs in zip(*blocks, strict=True):
        assert ours is not None
        assert np.array_equal(ours, theirs)


@pytest.mark.parametrize("world", [1, 2, 3, 8])
def test_ranks_share_the_batches_without_gap_or_overlap(exports: dict[str, Path], world: int) -> None:
    whole = ids(stream(exports["mds"], epochs=2))
    ranks = [stream(exports["mds"], epochs=2, rank=rank, world_size=world) for rank in range(world)]
    lengths = [len(rank) for rank in ranks]
    parts = [ids(rank) for rank in ranks]
    assert [len(part) for part in parts] == lengths
    assert [parts[g % world][g // world] for g in range(len(whole))] == whole


@pytest.mark.parametrize("form", FORMATS)
@pytest.mark.parametrize(("before", "after"), [(1, 3), (3, 2), (2, 8)])
def test_a_token_goes_on_at_another_world_size_in_another_format(
    exports: dict[str, Path], form: str, before: int, after: int
) -> None:
    whole = ids(stream(exports[form], epochs=2))
    ranks = [stream(exports[form], epochs=2, rank=r, world_size=before) for r in range(before)]
    first = [next(rank).ids for _ in range(3) for rank in ranks]
    tokens = [rank.token() for rank in ranks]
    assert all(token == tokens[0] for token in tokens)
    token = json.loads(json.dumps(tokens[0]))
    other = FORMATS[(FORMATS.index(form) + 1) % 3]
    going = [stream(exports[other], epochs=2, resume=token, rank=r, world_size=after) for r in range(after)]
    rest = [ids(rank) for rank in going]
    merged = [rest[g % after][g // after] for g in range(sum(map(len, rest)))]
    assert first + merged == whole


def test_a_token_may_be_that_of_any_batch_handed_over(exports: dict[str, Path]) -> None:
    whole = stream(exports["mds"], rank=1, world_size=2, epochs=None)
    batches = list(islice(whole, 9))
    tokens = [whole.token(batch) for batch in batches]
    assert [token["position"] for token in tokens] == [2 * n for n in range(1, 10)]
    again = stream(exports["mds"], rank=1, world_size=2, epochs=None, resume=tokens[3])
    assert ids(islice(again, 5)) == [batch.ids for batch in batches[4:]]
    assert again.token()["position"] == tokens[8]["position"]


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"seed": 4}, "seed (3 there, 4 here)"),
        ({"batch_size": 8}, "batch_size (7 there, 8 here)"),
        ({"shuffle": False}, "shuffle"),
        ({"shuffle_shards": 4}, "shuffle_shards"),
        ({"drop_last": True}, "drop_last"),
        ({"decode": False}, "source"),
        ({"recipe": Recipe(size="fixed", side=16)}, "source"),
    ],
)
def test_a_token_of_another_order_is_refused_with_what_differs(
    exports: dict[str, Path], changes: dict[str, Any], said: str
) -> None:
    token = stream(exports["mds"]).token()
    with pytest.raises(ConfigError) as refused:
        stream(exports["mds"], resume=token, **changes)
    assert said in str(refused.value)


@pytest.mark.parametrize("token", [{}, {"format": "x"}, "x", {"format": "datago.token/1"}])
def test_what_is_no_token_is_refused(exports: dict[str, Path], token: Any) -> None:
    with pytest.raises(ConfigError, match="resume"):
        stream(exports["mds"], resume=token)


def test_the_end_a_timeout_and_an_error_never_look_alike(tmp_path: Path) -> None:
    folder = export(tmp_path / "e", 8, recipe_of("mds", size="fixed"))
    done = stream(folder)
    assert len(ids(done)) == 2
    for _ in range(2):
        with pytest.raises(StopIteration):
            next(done)
    assert ids(stream(folder, resume=done.token())) == []
    [name] = [shard.name for shard in datago.Export(folder).shards]
    (folder / name).rename(folder / "gone")
    failing = stream(folder)
    for _ in range(2):
        with pytest.raises(StorageError, match=name) as failed:
            next(failing)
    assert failed.value.retryable
    assert failing.token()["position"] == 0
    (folder / "gone").rename(folder / name)
    assert len(ids(stream(folder, resume=failing.token()))) == 2


def test_a_timeout_loses_nothing(tmp_path: Path) -> None:
    recipe = recipe_of("webdataset", size="fixed", side=512, encode="png")
    folder = export(tmp_path / "e", 40, recipe)
    whole = ids(stream(folder, batch_size=20))
    hasty = stream(folder, batch_size=20, timeout=1e-9, threads=1)
    found: list[list[str]] = []
    timeouts: list[StreamTimeoutError] = []
    while len(found) < len(whole):
        try:
            found.append(next(hasty).ids)
        except StreamTimeoutError as error:
            timeouts.append(error)
    assert found == whole
    assert isinstance(timeouts[0], TimeoutError)
    assert (timeouts[0].kind, timeouts[0].retryable) == ("timeout", True)


def one_shard(folder: Path, form: str, count: int) -> tuple[Path, Path]:
    """An export and its only shard."""
    export(folder, count, recipe_of(form, size="fixed", samples_per_shard=100))
    [shard] = datago.Export(folder).shards
    return folder, folder / shard.name


@pytest.mark.parametrize("form", FORMATS)
def test_a_damaged_shard_is_named_and_never_believed(tmp_path: Path, form: str) -> None:
    folder, path = one_shard(tmp_path / "e", form, 20)
    data = path.read_bytes()
    path.write_bytes(data[: len(data) // 2])
    with pytest.raises(CorruptionError, match=path.name):
        ids(stream(folder))
    path.write_bytes(data[:-1] + bytes([data[-1] ^ 1]))
    with pytest.raises(CorruptionError, match="digest"):
        ids(stream(folder, verify=True))
    path.write_bytes(data)
    assert len(ids(stream(folder, verify=True))) == 3


@pytest.mark.parametrize("form", FORMATS)
def test_a_shard_with_any_bit_turned_raises_or_reads_and_never_kills(tmp_path: Path, form: str) -> None:
    folder, path = one_shard(tmp_path / "e", form, 6)
    data = path.read_bytes()
    refused: list[str] = []
    for n in range(400):
        at = (n * 7919) % (8 * len(data))
        turned = bytearray(data)
        turned[at // 8] ^= 1 << at % 8
        path.write_bytes(turned)
        try:
            for batch in stream(folder, threads=1):
                assert len(batch) + len(batch.failures) == 6
                assert all(reason != "internal" for _, reason, _ in batch.failures)
        except CorruptionError as error:
            refused.append(str(error))
    assert 0 < len(refused) < 400
    assert all(path.name in said for said in refused)


def test_a_picture_that_can_not_be_decoded_is_left_out_and_said() -> None:
    records = {r.sample_id: r for r in map(record, range(12))}
    bad = records["s00003"]
    records["s00003"] = datago.Record(bad.sample_id, b"\x89PNG\r\n\x1a\nnothing", "png", bad.attributes)
    found = list(stream(pictures(12, records), recipe=Recipe(size="fixed", side=16)))
    assert [failure[:2] for batch in found for failure in batch.failures] == [("s00003", "truncated")]
    for batch in found:
        assert batch.images is not None
        assert "s00003" not in batch.ids
        for n, sample_id in enumerate(batch.ids):
            assert (batch.images[n] == picture(int(sample_id[1:]))[0, 0]).all()
            assert batch.attributes[n]["number"] == int(sample_id[1:])
    assert sum(map(len, found)) == 11


def test_a_picture_that_can_not_be_read_is_an_error_that_may_pass(tmp_path: Path) -> None:
    records = {r.sample_id: r for r in map(record, range(12))}
    records["s00003"] = datago.Record("s00003", tmp_path / "none.png", "png")
    with pytest.raises(StorageError, match="s00003"):
        ids(stream(pictures(12, records), recipe=Recipe(size="fixed", side=16)))


def test_pictures_are_fitted_to_the_recipe_that_is_asked_for(exports: dict[str, Path]) -> None:
    recipe = Recipe(side=16, patch=4)
    for batch in stream(exports["parquet"], recipe=recipe):
        assert batch.images is not None
        assert batch.images.shape[2:0:-1] in datago.buckets(recipe)


def test_images_become_a_tensor_on_the_same_memory(exports: dict[str, Path]) -> None:
    pytest.importorskip("torch")
    batch = next(stream(exports["mds"]))
    assert batch.images is not None
    tensor = batch.to_torch()
    batch.images[0, 0, 0] = 200
    assert tensor[0, 0, 0].tolist() == [200, 200, 200]
    assert tuple(tensor.shape) == batch.images.shape


def test_a_stream_that_has_begun_stays_in_its_process(exports: dict[str, Path]) -> None:
    begun = stream(exports["mds"])
    copy = pickle.loads(pickle.dumps(begun))  # noqa: S301
    first = next(begun).ids
    assert next(copy).ids == first
    with pytest.raises(ConfigError, match="begun"):
        pickle.dumps(begun)
    program = (
        "import os, sys, datago\n"
        "options = dict(batch_size=7, seed=3, shuffle_shards=3)\n"
        "begun, fresh = (datago.stream(sys.argv[1], **options) for _ in range(2))\n"
        "next(begun)\n"
        "child = os.fork()\n"
        "if not child:\n"
        "    try:\n"
        "        next(begun)\n"
        "    except datago.ConfigError as error:\n"
        "        os._exit(0 if 'another process' in str(error) and len(list(fresh)) > 3 else 1)\n"
        "    os._exit(2)\n"
        "assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0\n"
        "assert len(list(begun)) > 3\n"
    )
    subprocess.run([sys.executable, "-c", program, str(exports["mds"])], check=True, timeout=60)


def test_a_closed_stream_says_so_and_its_token_stays_good(exports: dict[str, Path]) -> None:
    whole = ids(stream(exports["mds"]))
    with stream(exports["mds"]) as closing:
        first = [next(closing).ids for _ in range(2)]
    with pytest.raises(ConfigError, match="closed"):
        next(closing)
    assert first + ids(stream(exports["mds"], resume=closing.token())) == whole


@pytest.mark.parametrize(
    "options",
    [
        {"batch_size": 0},
        {"rank": 2, "world_size": 2},
        {"world_size": 0},
        {"threads": -1},
        {"prefetch": 0},
        {"epochs": 0},
        {"timeout": 0},
        {"payloads": "latent"},
        {"max_bytes": 0},
    ],
)
def test_values_out_of_range_are_refused(exports: dict[str, Path], options: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match=next(iter(options))):
        stream(exports["mds"], **options)


def test_an_unknown_keyword_and_a_folder_without_an_index_are_refused(tmp_path: Path) -> None:
    with pytest.raises(TypeError, match="batchsize"):
        datago.stream(tmp_path, batchsize=3)  # type: ignore[call-arg]
    for place, said in (("train@1", "load_dataset"), ("s3://bucket/export", "S3Object")):
        with pytest.raises(ConfigError, match=said):
            stream(place)
    with pytest.raises(InputError, match=r"index\.json"):
        stream(tmp_path)
    with pytest.raises(StorageError, match=r"index\.json"):
        stream(tmp_path / "none")
    (tmp_path / "index.json").write_text('{"format": "x"}')
    with pytest.raises(CorruptionError, match="format 'x'"):
        stream(tmp_path)


def test_memory_does_not_grow_with_the_number_of_batches(tmp_path: Path) -> None:
    """The bound that docs/datago.md states, with room for the interpreter."""
    folder = export(tmp_path / "e", COUNT, recipe_of("mds", size="fixed", side=512))
    program = (
        "import sys, datago\n"
        "def peak():\n"
        "    with open('/proc/self/status') as file:\n"
        "        return next(int(line.split()[1]) for line in file if line.startswith('VmHWM'))\n"
        "before = peak()\n"
        "stream = datago.stream(sys.argv[1], batch_size=9, epochs=int(sys.argv[2]), prefetch=2, threads=2)\n"
        "pixels = sum(batch.images[:, 0, 0, 2].sum() for batch in stream)\n"
        "print(peak() - before, pixels)\n"
    )
    grown = []
    for epochs in (1, 12):
        run = subprocess.run(
            [sys.executable, "-c", program, str(folder), str(epochs)],
            capture_output=True,
            text=True,
            check=True,
        )
        kibibytes, pixels = map(int, run.stdout.split())
        assert pixels == 77 * COUNT * epochs
        grown.append(kibibytes << 10)
    block = 9 * 512 * 512 * 3
    assert max(grown) < (2 + 2) * block + (48 << 20)
    assert grown[1] < grown[0] + 2 * block


def test_a_stream_says_where_time_goes_while_it_runs_and_after_its_end(exports: dict[str, Path]) -> None:
    running = stream(exports["mds"], threads=2)
    assert running.stages.bottleneck is None
    next(running)
    during = running.stages
    assert min(during.read, during.decode, during.wall) > 0
    for _ in running:
        pass
    after = running.stages
    assert after.decode > during.decode
    assert after.encode == after.write == 0
    assert 0 <= after.waited <= after.wall
    assert after.bottleneck in ("read", "decode", "resize")
    assert running.stages == after
