"""Buckets and shards that the suites of datago on S3 share."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
from PIL import Image

from datago import S3, Payload, Record, ShardPlan
from tests.formats.shards import png
from tests.servers import S3Server


def s3_of(server: S3Server, bucket: str, endpoint: str | None = None, **changes: Any) -> S3:
    """The bucket as datago sees it, with the credentials of its owner."""
    at = S3(bucket, "us-east-1", endpoint or server.endpoint, True, server.access_key, server.secret_key)
    return replace(at, **changes)


def large(count: int = 3) -> tuple[ShardPlan, list[Record]]:
    """A shard of 6 MiB for each sample."""
    ids = tuple(f"s{i}" for i in range(count))
    noise = [np.random.default_rng(i).bytes(6 << 20) for i in range(count)]
    image = png(Image.new("RGB", (8, 8)))
    records = [
        Record(i, image, "png", b"{}", [Payload("l", "bin", n)]) for i, n in zip(ids, noise, strict=True)
    ]
    return ShardPlan("x", None, ids), records
