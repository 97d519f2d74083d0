"""What the viewer's core takes for each screen and act, in a process of its own: seconds by work, and the greatest memory.

Run by `benchmarks.viewer`; prints JSON.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable
from itertools import count, cycle
from pathlib import Path
from statistics import median
from typing import Any

ASKED_FOR = "asked for: "
"""How works are called that take their time, since a person asks for them; they have no goal but memory."""
REPEATS = 5
_WHERE = "min_side >= 1000 AND score > 0.5"


def main(folder: Path) -> None:
    """Every screen on the project in `folder`: {"cold": {work: s}, "warm": {work: median of 5, s}, "memory": bytes}."""
    started = time.perf_counter()
    from ui.core import Screen, Viewer

    viewer = Viewer.open(folder)
    first = grid(viewer, Screen())
    cold = {"first screen of a new process": time.perf_counter() - started}
    anew, _ = timed(lambda: grid(Viewer.open(folder), Screen()))
    like = next(hit.sample_id for hit in first.hits if hit.document["embedder"])
    cursors = {
        order: viewer.browse(screen).cursor
        for order, screen in {
            "": Screen(),
            "like": Screen(like=like),
            "seed": Screen(seed=3),
            "words": Screen(words="red panda"),
            "sorted": Screen(sort="-sharpness"),
        }.items()
    }
    pages = {
        "": Screen(cursor=cursors[""] or ""),
        "filtered": Screen(where=_WHERE, cursor=viewer.browse(Screen(where=_WHERE)).cursor or "", verdict=""),
        "like": Screen(like=like, cursor=cursors["like"] or ""),
        "seed": Screen(seed=3, cursor=cursors["seed"] or ""),
        "words": Screen(words="red panda", cursor=cursors["words"] or ""),
        "sorted": Screen(sort="-sharpness", cursor=cursors["sorted"] or ""),
    }
    filters = {
        "filter text": Screen(where=_WHERE),
        "a verdict": Screen(verdict="gold"),
        "a reason and a source": Screen(reason="blurry", source="web"),
        "a flag": Screen(where="has_flag('reject')"),
        "datasets": Screen(where="in_dataset('gold') AND NOT in_dataset('evals')"),
        "nothing found": Screen(where="width < 0"),
        "words": Screen(words="red panda", verdict="held"),
        "like a sample": Screen(like=like, verdict="held"),
        "random": Screen(seed=5, source="studio"),
    }
    works: dict[str, Callable[[], Any]] = {
        **{f"next page, {name or 'in order of id'}": page(viewer, s) for name, s in pages.items()},
        **{f"filter change: {name}": page(viewer, s) for name, s in filters.items()},
        "open a sample": lambda: sample(viewer, like),
        "open a sample by 10 digits": lambda: sample(viewer, like[:10]),
        "queue of near-duplicates": lambda: queue(viewer, "duplicates"),
        "queue of what rules hold": lambda: queue(viewer, "held"),
        "queue of models' doubts": lambda: queue(viewer, "uncertain"),
        "histogram of a field": lambda: viewer.spread(Screen(), "width"),
        "samples by day": lambda: viewer.spread(Screen(), "ingested_at"),
        "catalogue of fields": viewer.catalogue,
        "snapshots": viewer.snapshots,
    }
    warm = {"first screen of a new session": anew}
    works |= maps(viewer)
    for name, work in works.items():
        warm[name] = median(timed(work)[0] for _ in range(REPEATS))
    warm[f"{ASKED_FOR}diff of two snapshots"], _ = timed(lambda: viewer.diff("gold@1", "gold@2"))
    flagged, act = timed(lambda: viewer.acts.flag([like], "reject", "ana", "blurred"))
    if act.behind:
        raise SystemExit(f"The index did not follow: {act.behind}")
    warm["flag, to be found at once"] = flagged
    warm["replay of a flag, index included"], _ = timed(viewer.acts.replay)
    warm["undo, found at once"], _ = timed(lambda: viewer.acts.undo("ana", of_act=act.id))
    viewer.acts.replay()
    json.dump({"cold": cold, "warm": warm, "memory": peak_memory("self")}, sys.stdout)


def grid(viewer: Any, screen: Any) -> Any:
    """All that the page of the grid asks for."""
    from ui.core import FACETS

    viewer.stage(viewer.current().status())
    found = viewer.browse(screen)
    for facet in ("verdict", "reason"):
        viewer.counts(screen, facet)
    for facet in FACETS:
        viewer.values(facet)
    viewer.thumbnails([hit.sample_id for hit in found.hits])
    return found


def maps(viewer: Any) -> dict[str, Callable[[], Any]]:
    """What the page of the map asks for, and the grids of lassos; each time what nobody asked for before."""
    from ui.core import Screen, Viewer
    from ui.core.map import COLOURS, MapView

    view, painted = MapView(viewer), MapView(viewer)
    numbers, colours = count(), cycle(COLOURS)

    def lassoed(side: int) -> None:
        far = 500 + side + next(numbers) % REPEATS
        grid(viewer, Screen(lasso=f"500,500;{far},500;{far},{far};500,{far}"))

    return {
        "map of a new session": lambda: MapView(Viewer.open(viewer.project.path)).picture(Screen()),
        "filter change: map": lambda: view.picture(Screen(where=f"min_side >= {1000 + next(numbers)}")),
        "filter change: colour of the map": lambda: painted.picture(Screen(colour=next(colours))),
        "grid of a lasso": lambda: lassoed(30),
        "grid of a large lasso": lambda: lassoed(200),
    }


def queue(viewer: Any, name: str) -> None:
    """All that the page of a queue asks for."""
    from ui.core import Screen
    from ui.core.triage import Triage

    viewer.stage(viewer.current().status())
    found = Triage(viewer).page(Screen(page="triage", queue=name))
    viewer.thumbnails([item.sample_id for group in found.groups for item in group])


def page(viewer: Any, screen: Any) -> Callable[[], Any]:
    return lambda: grid(viewer, screen)


def sample(viewer: Any, name: str) -> None:
    """All that the page of a sample asks for."""
    viewer.stage(viewer.current().status())
    explained = viewer.explain(name)
    viewer.document(explained.sample_id)
    viewer.picture(explained.sample_id)
    viewer.payloads(explained.sample_id)
    viewer.thumbnails([hit.sample_id for hit in viewer.similar(explained.sample_id)])


def timed(work: Callable[[], Any]) -> tuple[float, Any]:
    """Seconds, and what came of it."""
    started = time.perf_counter()
    found = work()
    return time.perf_counter() - started, found


def peak_memory(process: int | str) -> int:
    """The most memory that a process ever had, in bytes; files of this disk that are mapped into it count."""
    text = Path(f"/proc/{process}/status").read_text(encoding="ascii")
    return 1024 * next(int(line.split()[1]) for line in text.splitlines() if line.startswith("VmHWM"))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
