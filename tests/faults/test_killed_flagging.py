"""Who flags and replays is killed, or told by the disk that it is full or broken, at any call: no acknowledged flag is lost
or doubled, the chain holds, and the next replay ends where a rebuild from nothing ends."""

from __future__ import annotations

import errno
import os
import random
import shutil
import signal
import statistics
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any, TypeVar

import pytest
from calls import FORKS, Calls, die, failing

from refinery.errors import TransientError
from refinery.ledger import Actor, ActorKind, Event, EventType, Ledger, LedgerView, checkpoints, flag_event
from refinery.ledger.selection import undo_events
from refinery.store.local import LocalStore
from tests.synthetic import Sample, Synthetic, quick_folder

ANA, CRITIC = Actor(ActorKind.PERSON, "ana"), Actor(ActorKind.MODEL, "critic")
SAMPLES = [Sample(n, look=n // 2 if n % 3 else None, side=50 if n % 7 == 0 else 100) for n in range(24)]
ACTS = 6
T = TypeVar("T")


def checkpoint_often(replace: Any = setattr) -> None:
    """So that writing and merging checkpoints is among what is broken off."""
    for name, value in (("EVENTS_BEHIND", 6), ("SEGMENTS_BEHIND", 3), ("_MERGED", 3)):
        replace(checkpoints, name, value)


def prepare(folder: Path, flags: int = 0) -> None:
    """A project with two batches, replayed; with many flags on samples that nobody ever saw, where asked."""
    project = Synthetic(LocalStore(folder))
    for batch in (SAMPLES[:16], SAMPLES[16:]):
        project.compute(project.land(batch), batch)
    for start in range(0, flags, 1000):
        unseen = (Sample(n + 1000).id for n in range(start, start + 1000))
        project.ledger.append(flag_event(i, "review", CRITIC, known_kinds=("review",)) for i in unseen)
    project.replayer.replay(project.policy)


def next_act(dice: random.Random, view: LedgerView) -> list[Event]:
    """One to three flags, the taking off of some, or an undo of what stands."""
    about = [s.id for s in dice.sample(SAMPLES, dice.randint(1, 3))]
    standing = [e for i in about for e in view.standing(i)]
    match dice.choice(["flag", "flag", "unflag", "undo"]):
        case "undo" if standing:
            return undo_events(view, standing, ANA)
        case "unflag":
            return [Event(EventType.UNFLAG, ANA, sample_id=i, kind="reject") for i in about]
        case _:
            kind, actor = dice.choice(["reject", "keep", "blocked"]), dice.choice([ANA, CRITIC])
            return [flag_event(i, kind, actor, known_kinds=(kind,)) for i in about]


def flags_and_replays(folder: Path, seed: int, moment: int, often: bool, told: Connection) -> None:
    """Says what it means to append, what was acknowledged, and at the end how many calls there were."""
    if often:
        checkpoint_often()
    calls = Calls(moment, die)
    calls.install(setattr)
    dice = random.Random(seed)
    project = Synthetic(LocalStore(folder))
    for _ in range(ACTS):
        act = next_act(dice, project.ledger.view())
        told.send(("means", act))
        told.send(("told", project.ledger.append(act)))
        if dice.random() < 0.5:
            project.replayer.replay(project.policy)
    told.send(("calls", calls.seen))


@dataclass
class Project:
    """A project that is killed again and again, and what must be in its ledger."""

    folder: Path
    often: bool = True
    known: list[str] = field(default_factory=list)
    reopened: list[float] = field(default_factory=list)
    calls: int = 0

    def __post_init__(self) -> None:
        self.known = [e.id for e in Ledger(LocalStore(self.folder)).events()]

    def run(self, seed: int, moment: int) -> bool:
        """Flag and replay in another process that dies at a call; whether it did. Then check, and do the same again."""
        ours, theirs = FORKS.Pipe(duplex=False)
        process = FORKS.Process(
            target=flags_and_replays, args=(self.folder, seed, moment, self.often, theirs)
        )
        process.start()
        theirs.close()
        said: list[tuple[str, Any]] = []
        with suppress(EOFError):
            while True:
                said.append(ours.recv())
        process.join()
        ours.close()
        self.check(
            [act for what, act in said if what == "means"], [act for what, act in said if what == "told"]
        )
        if process.exitcode == 0:
            self.calls = said[-1][1]
            return False
        assert process.exitcode == -signal.SIGKILL
        return True

    def check(self, meant: list[list[Event]], told: list[list[Event]]) -> None:
        started = time.perf_counter()
        project = Synthetic(LocalStore(self.folder))
        ledger = project.ledger
        found = ledger.events()
        self.reopened.append(time.perf_counter() - started)
        assert unfinished(self.folder) == []
        ids = [e.id for e in found]
        acknowledged = [e for act in told for e in act]
        assert list(found[len(self.known) :][: len(acknowledged)]) == acknowledged, (
            "in their places, as was told"
        )
        whole = self.known + [e.id for e in acknowledged]
        [*_, last] = meant or [[]]
        unknown = [] if len(meant) == len(told) else [e.id for e in last]
        assert ids in (whole, whole + unknown), "an act is there or not, and never in part"
        if unknown:
            assert [e.id for e in ledger.append(last)] == unknown
            self.known = whole + unknown
        else:
            self.known = whole
        assert [e.id for e in Ledger(ledger.store).events()] == self.known
        if self.often:
            ledger.verify()
        assert project.replayer.replay(project.policy).root == rebuilt(self.folder)

    def kills(self, seed: int, kills: int) -> None:
        dice = random.Random(seed)
        assert not self.run(dice.randrange(1 << 30), 0)
        while kills:
            kills -= self.run(dice.randrange(1 << 30), dice.randint(1, self.calls))
        Ledger(LocalStore(self.folder)).verify()


def unfinished(folder: Path) -> list[str]:
    """What writers left that no longer write."""
    return [path.name for path in (folder / ".tmp").iterdir() if path.name != "swap.lock"]


def rebuilt(folder: Path) -> str:
    """The root of a replay over truth alone, with nothing else to start from."""
    truth = folder.with_name("truth")
    shutil.copytree(
        folder, truth, copy_function=os.link, ignore=shutil.ignore_patterns(".tmp", "states", "checkpoints")
    )
    try:
        project = Synthetic(LocalStore(truth))
        return str(project.replayer.replay(project.policy, full=True).root)
    finally:
        shutil.rmtree(truth)


@pytest.fixture
def folder() -> Iterator[Path]:
    with quick_folder() as home:
        yield Path(home) / "store"


def test_killed_at_fifty_calls_nothing_acknowledged_is_lost_or_doubled(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    checkpoint_often(monkeypatch.setattr)
    prepare(folder)
    project = Project(folder)
    project.kills(5, 50)
    assert list(LocalStore(folder).list("checkpoints/")), "they were among what was broken off"


@pytest.mark.heavy
@pytest.mark.parametrize("seed", range(100, 119))
def test_killed_at_a_thousand_calls_nothing_acknowledged_is_lost_or_doubled(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], seed: int
) -> None:
    checkpoint_often(monkeypatch.setattr)
    prepare(folder)
    project = Project(folder)
    project.kills(seed, 50)
    report(project, capsys)


@pytest.mark.heavy
@pytest.mark.timeout(1800)
def test_killed_at_fifty_calls_over_a_long_ledger_nothing_is_lost_or_doubled(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    prepare(folder, flags=50_000)
    project = Project(folder, often=False)
    project.kills(7, 50)
    report(project, capsys)


def report(project: Project, capsys: pytest.CaptureFixture[str]) -> None:
    seconds = project.reopened
    with capsys.disabled():
        print(
            f"\n{len(seconds)} reopenings of up to {len(project.known):,} events:"
            f" median {statistics.median(seconds):.4f} s, longest {max(seconds):.4f} s"
        )


def again(call: Callable[[], T]) -> T:
    """The result of a call that is done again once when it fails, which it may do in a way that can be tried again."""
    try:
        return call()
    except TransientError:
        return call()


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EIO])
def test_a_disk_that_fails_once_at_any_call_is_an_error_to_try_again_and_all_ends_the_same(
    folder: Path, monkeypatch: pytest.MonkeyPatch, code: int
) -> None:
    checkpoint_often(monkeypatch.setattr)
    prepare(folder)
    dice, view, acts = random.Random(4), Ledger(LocalStore(folder)).view(), list[list[Event]]()
    for _ in range(ACTS):
        acts.append(next_act(dice, view))
        view = view.with_events(acts[-1])

    def root_on_a_copy(calls: Calls) -> str:
        copy = shutil.copytree(folder, folder.with_name("copy"))
        with monkeypatch.context() as patch:
            calls.install(patch.setattr)
            project = Synthetic(LocalStore(copy))
            for n, act in enumerate(acts):
                again(lambda act=act: project.ledger.append(act))
                if n % 2:
                    root = again(lambda: project.replayer.replay(project.policy).root)
        ledger = Ledger(LocalStore(copy))
        assert [e.id for e in ledger.events()] == [e.id for act in acts for e in act]
        ledger.verify()
        assert unfinished(copy) == []
        shutil.rmtree(copy)
        return str(root)

    whole = Calls(0, die)
    expected = root_on_a_copy(whole)
    assert whole.seen > 80
    for moment in range(1, whole.seen + 1):
        assert root_on_a_copy(Calls(moment, failing(code))) == expected, f"call {moment}"
