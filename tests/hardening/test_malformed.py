"""Whatever is wrong with a picture, it gets one verdict, and no decoder panics."""

from __future__ import annotations

import pytest

import datago
from tests.hardening.conftest import OF_THE_BYTES, Judge
from tests.hardening.mutations import MUTATIONS, malformed
from tests.hardening.seeds import seeds

VERDICTS = {"fine", *OF_THE_BYTES, "mask_mismatch"}
# seeds that say how far we read a format, not that we read it
UNREAD = {"jpeg: one component a scan"}


def check(judge: Judge, kind: str, start: int, count: int, through: str) -> None:
    found = judge(kind=kind, start=start, count=count, through=through)
    assert not found["internal"]
    assert found["reasons"].keys() <= VERDICTS
    assert sum(found["reasons"].values()) == count
    assert found["reasons"]["truncated"] > count / 10


def test_every_kind_of_picture_is_read_while_it_is_whole() -> None:
    result = datago.inspect(list(seeds().values()))
    unread = {name for name, reason in zip(seeds(), result.columns["reason"], strict=True) if reason}
    assert unread == UNREAD


def test_malformed_pictures_are_the_same_each_time_and_differ_from_each_other() -> None:
    made = [data for _, data in malformed(2000)]
    assert made == [data for _, data in malformed(2000)]
    assert len(set(made)) > 1900
    assert len(MUTATIONS) >= 10


@pytest.mark.parametrize("start", [0, 1000])
def test_malformed_pictures_get_a_verdict(start: int, judge: Judge) -> None:
    check(judge, "malformed", start, 1000, "inspect")


@pytest.mark.parametrize("through", ["shard", "mask"])
def test_malformed_pictures_get_a_verdict_on_their_way_into_a_shard(through: str, judge: Judge) -> None:
    check(judge, "malformed", 0, 500, through)


def test_pictures_cut_short_get_a_verdict(judge: Judge) -> None:
    check(judge, "prefixes", 0, 1000, "inspect")


@pytest.mark.heavy
@pytest.mark.parametrize("through", ["inspect", "shard", "mask"])
@pytest.mark.parametrize("kind", ["malformed", "prefixes"])
def test_very_many_malformed_pictures_get_a_verdict(kind: str, through: str, judge: Judge) -> None:
    check(judge, kind, 0, 50_000, through)
