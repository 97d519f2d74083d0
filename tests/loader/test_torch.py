"""A stream as PyTorch takes it: the same batches in the same order with any number of workers."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

import datago
from datago import ConfigError
from tests.loader.exports import COUNT, export, picture, recipe_of

torch = pytest.importorskip("torch")

ROOT = Path(__file__).resolve().parents[2]
pytestmark = pytest.mark.filterwarnings("ignore:This DataLoader will create")  # more workers than cores


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return export(tmp_path_factory.mktemp("torch") / "e", COUNT, recipe_of("mds"))


def stream(source: Any, **options: Any) -> datago.Stream:
    return datago.stream(source, **{"batch_size": 7, "shuffle_shards": 3, "epochs": 2, **options})


def loaded(dataset: Any, workers: int, **options: Any) -> list[Any]:
    loader = torch.utils.data.DataLoader(dataset, batch_size=None, num_workers=workers, **options)
    return list(loader)


@pytest.mark.parametrize("workers", [0, 1, 3])
@pytest.mark.parametrize("rank", [0, 1])
def test_the_order_is_that_of_the_stream_with_any_number_of_workers(
    folder: Path, workers: int, rank: int
) -> None:
    expected = list(stream(folder, rank=rank, world_size=2))
    dataset = stream(folder, rank=rank, world_size=2).torch()
    assert len(dataset) == len(expected)
    found = loaded(dataset, workers)
    assert [batch.ids for batch in found] == [batch.ids for batch in expected]
    for batch in found:
        assert batch.images.dtype is torch.uint8
        for n, sample_id in enumerate(batch.ids):
            assert batch.images[n, 0, 0].tolist() == picture(int(sample_id[1:]))[0, 0].tolist()


FORKED = """
import gc, os, sys, datago
options = dict(batch_size=7, threads=2)
begun = datago.stream(sys.argv[1], **options)
next(begun)
child = os.fork()
if child == 0:
    mine = datago.stream(sys.argv[1], **options)
    next(mine)
    del begun
    gc.collect()
    mine.close()
    os._exit(0)
_, status = os.waitpid(child, 0)
next(begun)
sys.exit(os.waitstatus_to_exitcode(status))
"""


def test_a_forked_child_that_drops_its_parents_stream_ends_its_own(folder: Path) -> None:
    command = [sys.executable, "-W", "ignore", "-c", FORKED, str(folder)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=60, check=False)
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.parametrize(("workers", "after"), [(0, 3), (3, 2)])
def test_the_token_of_a_batch_goes_on_with_other_workers(folder: Path, workers: int, after: int) -> None:
    expected = [batch.ids for batch in stream(folder)]
    dataset = stream(folder).torch()
    batches = loaded(dataset, workers)
    token = dataset.token(batches[7])
    rest = loaded(stream(folder, resume=token).torch(), after)
    assert [batch.ids for batch in rest] == expected[8:]


def test_spawned_workers_give_the_same(folder: Path) -> None:
    """Spawned and not forked: the stream is sent to them."""
    expected = [batch.ids for batch in stream(folder)]
    found = loaded(stream(folder).torch(), 2, multiprocessing_context="spawn")
    assert [batch.ids for batch in found] == expected


def test_a_stream_that_has_begun_is_refused(folder: Path) -> None:
    begun = stream(folder)
    next(begun)
    with pytest.raises(ConfigError, match="begun"):
        loaded(begun.torch(), 0)


def test_datago_itself_needs_no_torch() -> None:
    program = "import sys, datago, refinery.loading; assert 'torch' not in sys.modules"
    subprocess.run([sys.executable, "-c", program], cwd=ROOT, check=True)
