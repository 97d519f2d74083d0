"""datago against its peers and the limit: the same files, the same cores, the same output, in turns.

.venv/bin/python -m benchmarks.datago [--quick] [--json FILE] [--plot FILE.svg] [--markdown FILE] [--role NAME …] [--cpu]

Photographs of 1024×768 and 2048×1536, JPEG quality 90, 4:2:0, their files in the page cache. Every system is a process of
its own, kept to one core, then to two; peers from PyPI live in an environment of their own (deploy/peers.sh). `ratio` is ours
over theirs, medians of rounds taken in turns. PSNR is against Lanczos3 in floats on the full decode; "stripes" is the
contrast that is left of stripes 1.6 times too fine for the target: above a third a resize is marked as aliasing.
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path

from benchmarks import _handover, _roles
from benchmarks._markdown import markdown
from benchmarks._plot import draw
from benchmarks._table import Row, options, report

ROLES = {
    "decode": _roles.decode,
    "resize": _roles.resize,
    "shards": _roles.shards,
    "untouched": _roles.untouched,
    "inspect": _roles.inspect,
    "handover": _handover.handover,
}


def main() -> None:
    """Measure the roles and print one table."""
    asked = options(__doc__, _more)
    rows: list[Row] = []
    with tempfile.TemporaryDirectory(prefix="refinery-bench-") as folder:
        bench = _roles.Bench(Path(folder), asked.quick, asked.cpu)
        for role in asked.role or ROLES:
            rows += ROLES[role](bench)
    report("datago", rows, asked.json)
    if asked.plot:
        draw(rows, asked.plot)
    if asked.markdown:
        asked.markdown.write_text(markdown(rows), encoding="utf-8")


def _more(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--plot", type=Path, metavar="FILE.svg", help="draw the rates as bars")
    parser.add_argument("--markdown", type=Path, metavar="FILE", help="write tables for docs")
    parser.add_argument("--role", nargs="+", choices=list(ROLES), help="only these")
    parser.add_argument(
        "--cpu",
        action="store_true",
        help="count CPU seconds on one core: for a machine that is not quiet; waiting for the disk is then left out",
    )


if __name__ == "__main__":
    main()
