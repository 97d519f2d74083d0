"""A ledger whose writer dies, or whose disk fails, at any call of its write path keeps every acknowledged flag, once."""

from __future__ import annotations

import errno
import multiprocessing
import os
import resource
import signal
from collections.abc import Callable
from contextlib import suppress
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import pytest

from refinery.digests import digest
from refinery.errors import TransientError
from refinery.ledger import Actor, ActorKind, Event, Ledger, flag_event
from refinery.store.local import LocalStore

ANA = Actor(ActorKind.PERSON, "ana")
CALLS = ("link", "fsync", "open", "unlink")


def flag(number: int) -> Event:
    return flag_event(digest(str(number).encode()), "reject", ANA, known_kinds=("reject",))


def at_call(moment: int, act: Callable[[], None]) -> Callable[[str], Any]:
    """What stands in for a function of `os`: the same, but `act` comes first at the call with number `moment`."""
    seen = [0]

    def instead(name: str) -> Any:
        real = getattr(os, name)

        def wrapped(*args: Any, **more: Any) -> Any:
            seen[0] += 1
            if seen[0] == moment:
                act()
            return real(*args, **more)

        return wrapped

    return instead


def _dies_at(folder: Path, moment: int, told: Connection) -> None:
    ledger = Ledger(LocalStore(folder))
    instead = at_call(moment, lambda: os.kill(os.getpid(), signal.SIGKILL))
    for name in CALLS:
        setattr(os, name, instead(name))
    for number in range(20):
        [event] = ledger.append([flag(number)])
        told.send(event.id)


def test_a_writer_killed_at_any_call_loses_and_doubles_nothing_it_was_told(tmp_path: Path) -> None:
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["refinery.ledger", "refinery.store.local", __name__])
    acknowledged: list[str] = []
    for moment in range(1, 26):
        ours, theirs = context.Pipe(duplex=False)
        writer = context.Process(target=_dies_at, args=(tmp_path / "store", moment, theirs))
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
        ids = [event.id for event in ledger.events()]
        assert len(set(ids)) == len(ids)
        assert set(acknowledged) <= set(ids)
        assert len(ids) <= len(acknowledged) + moment, "at most one a kill was written and not told"
        ledger.verify()


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EIO])
@pytest.mark.parametrize("moment", range(1, 5))
def test_a_failing_disk_is_an_error_to_try_again_and_the_same_append_then_stands_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, moment: int, code: int
) -> None:
    ledger = Ledger(LocalStore(tmp_path / "store"))
    [before] = ledger.append([flag(1)])

    def fail() -> None:
        raise OSError(code, os.strerror(code))

    event = flag(2)
    with monkeypatch.context() as broken:
        instead = at_call(moment, fail)
        for name in CALLS:
            broken.setattr(os, name, instead(name))
        with pytest.raises(TransientError, match="could not be written"):
            ledger.append([event])
    ledger.append([event])
    fresh = Ledger(LocalStore(tmp_path / "store"))
    assert [e.id for e in fresh.events()] == [before.id, event.id]
    assert fresh.verify() == 2


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
