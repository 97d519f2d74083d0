"""A ledger whose writer dies, or whose disk fails, at any call of its write path keeps every acknowledged flag, once."""

from __future__ import annotations

import errno
import os
import resource
import signal
from contextlib import suppress
from multiprocessing.connection import Connection
from pathlib import Path

import pytest
from calls import FORKS, Calls, die, failing

from refinery.digests import digest
from refinery.errors import TransientError
from refinery.ledger import Actor, ActorKind, Event, Ledger, flag_event, segment_key
from refinery.store.local import LocalStore

ANA = Actor(ActorKind.PERSON, "ana")


def flag(number: int) -> Event:
    return flag_event(digest(str(number).encode()), "reject", ANA, known_kinds=("reject",))


def _dies_at(folder: Path, moment: int, told: Connection) -> None:
    ledger = Ledger(LocalStore(folder))
    Calls(moment, die).install(setattr)
    for number in range(20):
        [event] = ledger.append([flag(number)])
        told.send(event.id)


def test_a_writer_killed_at_any_call_loses_and_doubles_nothing_it_was_told(tmp_path: Path) -> None:
    acknowledged: list[str] = []
    for moment in range(1, 26):
        ours, theirs = FORKS.Pipe(duplex=False)
        writer = FORKS.Process(target=_dies_at, args=(tmp_path / "store", moment, theirs))
        writer.start()
        theirs.close()
        told: list[str] = []
        with suppress(EOFError):
            while True:
                told.append(ours.recv())
        writer.join()
        ours.close()
        assert writer.exitcode == -signal.SIGKILL
        acknowledged += told
        ledger = Ledger(LocalStore(tmp_path / "store"))
        assert list((tmp_path / "store" / ".tmp").iterdir()) == [], "what it left is swept"
        ids = [event.id for event in ledger.events()]
        assert len(set(ids)) == len(ids)
        assert set(acknowledged) <= set(ids)
        assert len(ids) <= len(acknowledged) + moment, "at most one a kill was written and not told"
        ledger.verify()


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EIO])
@pytest.mark.parametrize("moment", [1, 2, 4, 5, 6, 7])  # the third makes a folder that is there
def test_a_failing_disk_is_an_error_to_try_again_and_the_same_append_then_stands_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, moment: int, code: int
) -> None:
    ledger = Ledger(LocalStore(tmp_path / "store"))
    [before] = ledger.append([flag(1)])

    event = flag(2)
    with monkeypatch.context() as broken:
        Calls(moment, failing(code)).install(broken.setattr)
        with pytest.raises(TransientError, match="could not be written"):
            ledger.append([event])
    ledger.append([event])
    fresh = Ledger(LocalStore(tmp_path / "store"))
    assert [e.id for e in fresh.events()] == [before.id, event.id]
    assert fresh.verify() == 2


def synced(monkeypatch: pytest.MonkeyPatch, code: int | None = None) -> list[Path]:
    """The folders that are synced from now on; with `code` each such sync fails."""
    found: list[Path] = []
    real = os.fsync

    def fsync(handle: int) -> None:
        place = Path(f"/proc/self/fd/{handle}").resolve()
        if place.is_dir():
            found.append(place)
            if code is not None:
                raise OSError(code, os.strerror(code))
        real(handle)

    monkeypatch.setattr(os, "fsync", fsync)
    return found


@pytest.mark.parametrize("again", ["same", "fresh"])
def test_what_became_visible_without_a_sync_is_synced_before_it_is_acknowledged(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, again: str
) -> None:
    ledger = Ledger(LocalStore(tmp_path / "store"))
    event = flag(1)
    with monkeypatch.context() as broken:
        synced(broken, errno.EIO)
        with pytest.raises(TransientError):
            ledger.append([event])
        assert (tmp_path / "store" / "ledger").is_dir(), "it is visible"
        repeating = ledger if again == "same" else Ledger(LocalStore(tmp_path / "store"))
        with pytest.raises(TransientError):
            repeating.append([event])
    folders = synced(monkeypatch)
    assert [e.id for e in repeating.append([event])] == [event.id]
    assert folders == [tmp_path / "store" / "ledger", tmp_path / "store"]
    assert repeating.verify() == 1
    del folders[:]
    repeating.append([flag(2)])
    assert folders == [tmp_path / "store" / "ledger"], "the usual append syncs its folder and no more"


def test_a_half_written_scratch_file_is_no_object_and_is_swept_when_the_store_opens(tmp_path: Path) -> None:
    store = LocalStore(tmp_path / "store")
    ledger = Ledger(store)
    ledger.append([flag(1)])
    whole = store.get(segment_key(1)).replace(b'"segment":1', b'"segment":2')
    for cut in range(0, len(whole), 50):
        (tmp_path / "store" / ".tmp" / f"torn-{cut}").write_bytes(whole[:cut])
    assert [info.key for info in store.list("")] == [segment_key(1)]
    assert Ledger(store).verify() == 1
    LocalStore(tmp_path / "store")
    assert list((tmp_path / "store" / ".tmp").iterdir()) == []


def test_a_file_too_large_for_the_disk_leaves_nothing_behind(tmp_path: Path) -> None:
    ledger = Ledger(LocalStore(tmp_path / "store"))
    event = flag(1)
    usual = resource.getrlimit(resource.RLIMIT_FSIZE)
    ignored = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    try:
        resource.setrlimit(resource.RLIMIT_FSIZE, (100, usual[1]))
        with pytest.raises(TransientError, match="could not be written"):
            ledger.append([event])
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, usual)
        signal.signal(signal.SIGXFSZ, ignored)
    assert ledger.offset == 0
    ledger.append([event])
    assert [e.id for e in Ledger(LocalStore(tmp_path / "store")).events()] == [event.id]
