"""A training run that a test kills: all ranks in lockstep, one step for each line on stdin, each step told on stdout."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import datago
from tests.loader.exports import COUNT, pictures, recipe_of

EPOCHS = 40


def streams(source: str, world: int, token: dict[str, Any] | None) -> list[datago.Stream]:
    """The streams of all ranks, over the export in a folder, or over the pictures themselves."""
    place: Any = pictures(COUNT) if source == "pictures" else Path(source)
    recipe = recipe_of("mds") if source == "pictures" else None
    return [
        datago.stream(
            place,
            batch_size=4,
            recipe=recipe,
            seed=11,
            shuffle_shards=3,
            epochs=EPOCHS,
            rank=rank,
            world_size=world,
            resume=token,
            threads=1,
        )
        for rank in range(world)
    ]


def main() -> None:
    """Step as often as told; a step is what each rank consumed (None at its end), and the token after it."""
    source, world, token = sys.argv[1], int(sys.argv[2]), json.loads(sys.argv[3])
    ranks = streams(source, world, token)
    for _ in sys.stdin:
        batches = [next(rank, None) for rank in ranks]
        step = [batch and batch.ids for batch in batches]
        print(json.dumps([step, ranks[0].token()]), flush=True)


if __name__ == "__main__":
    main()
