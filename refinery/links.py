"""Links between what we serve: from Dagster into the viewer, and from the viewer to the asset that made a thing.

The viewer's address says what it shows; the names of its parameters that are linked to stand here, below both.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from urllib.parse import quote, urlencode, urlsplit

from refinery.errors import ConfigError

VIEWER_VARIABLE = "REFINERY_VIEWER_URL"
DAGSTER_VARIABLE = "REFINERY_DAGSTER_URL"
VIEWER_URL = "http://127.0.0.1:8501"
"""Where `refinery view` and `make up` serve the viewer unless told otherwise."""


def sample_link(sample_id: str) -> str:
    """One sample, in the viewer."""
    return viewer_link(sample=sample_id)


def batch_link(batch: str) -> str:
    """The samples of a batch, in the viewer."""
    quoted = batch.replace("'", "''")
    return viewer_link(where=f"batch = '{quoted}'")


def snapshot_link(ref: str) -> str:
    """A snapshot, and what differs from its parent, in the viewer."""
    return viewer_link(page="snapshots", ref=ref)


def viewer_link(environment: Mapping[str, str] | None = None, **screen: str) -> str:
    """A screen of the viewer at REFINERY_VIEWER_URL, by parameters of its address. ConfigError when that is no http(s) URL."""
    base = _base(VIEWER_VARIABLE, environment) or VIEWER_URL
    return f"{base}/?{urlencode(screen)}" if screen else f"{base}/"


def asset_link(
    asset: str, partition: str | None = None, environment: Mapping[str, str] | None = None
) -> str | None:
    """The page of an asset in Dagster at REFINERY_DAGSTER_URL, with its partition (a batch, a dataset): its runs, checks and
    metadata. None when that is not set; ConfigError when it is no http(s) URL."""
    base = _base(DAGSTER_VARIABLE, environment)
    if base is None:
        return None
    view = {"view": "partitions", "partition": partition} if partition else {"view": "events"}
    return f"{base}/assets/{quote(asset, safe='')}?{urlencode(view)}"


def _base(variable: str, environment: Mapping[str, str] | None) -> str | None:
    text = (os.environ if environment is None else environment).get(variable, "").strip()
    if not text:
        return None
    parts = urlsplit(text)
    if parts.scheme not in ("http", "https") or not parts.netloc or parts.query or parts.fragment:
        raise ConfigError(
            f"{variable} is {text!r}: give the address that browsers use, as in http://127.0.0.1:3000.",
            kind="bad_address",
        )
    return text.rstrip("/")
