"""`BACKEND=real`: where a project stands on the servers that the environment names, and the copy of an embedded one there."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import yaml

from refinery.backends import server_name
from refinery.config import FILE_NAME, LocalStoreSettings, S3StoreSettings, Settings, validate
from refinery.errors import ConfigError
from refinery.project import Refinery
from refinery.s3 import boto_errors, code_of, explained, make_client
from refinery.store import ObjectStore

BUCKET = "refinery"
_NAMES = ("AWS_ENDPOINT_URL_S3", "OPENSEARCH_URL")


def sections(home: Path, environment: Mapping[str, str]) -> dict[str, Any]:
    """`store` and `index` of refinery.yaml for a project in the folder `home`, its bucket made if it is not there.

    ConfigError when the environment does not say where the servers are.
    """
    missing = [name for name in _NAMES if not environment.get(name)]
    if missing:
        raise ConfigError(
            f"{' and '.join(missing)} must say where the servers are: `make up BACKEND=real` starts them and says so.",
            kind="no_servers",
        )
    name = server_name(home)
    endpoint, url = (environment[name] for name in _NAMES)
    make_bucket(BUCKET, endpoint)
    return {
        "store": {"kind": "s3", "bucket": BUCKET, "prefix": name, "endpoint": endpoint},
        "index": {"kind": "opensearch", "url": url, "name": name},
    }


def make_twin(embedded: Path, home: Path, environment: Mapping[str, str]) -> Refinery:
    """Make `home` a project on servers with all that the embedded project holds: its objects, and the index made anew.

    Nobody may write to the embedded project meanwhile. Broken off, it can be called again; `home` is a project only when
    all of it is there. ConfigError when the project's store is no folder, or its place on the servers another project's.
    """
    source = Refinery.open(embedded)
    if not isinstance(source.settings.store, LocalStoreSettings):
        raise ConfigError(
            f"{embedded} keeps its truth in {source.store.url} already: `make up PROJECT={embedded}` shows it.",
            kind="not_embedded",
        )
    raw = yaml.safe_load((source.path / FILE_NAME).read_text(encoding="utf-8")) or {}
    raw |= sections(home, environment)
    for part in (*raw.get("sources", ()), raw.get("embedder"), *raw.get("extra_embedders", {}).values()):
        for key in ("path", "checkpoint"):  # relative to the folder of refinery.yaml
            if isinstance(part, dict) and isinstance(part.get(key), str) and "://" not in part[key]:
                part[key] = str(source.path / part[key])
    home.mkdir(parents=True, exist_ok=True)
    policy = source.settings.policy
    if not policy.is_absolute():
        (home / policy).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(source.path / policy, home / policy)
    twin = Refinery(home, validate(Settings, raw, str(home / FILE_NAME)))
    _copy_objects(source.store, twin.store)
    twin.rebuild_index()
    head = f"# {embedded.name} on servers; made from it once, and a project of its own since.\n"
    (home / FILE_NAME).write_text(head + yaml.safe_dump(raw, sort_keys=False), encoding="utf-8")
    return twin


def make_bucket(bucket: str, endpoint: str) -> None:
    """Make a bucket that is not there."""
    try:
        make_client(S3StoreSettings(bucket=bucket, endpoint=endpoint)).create_bucket(Bucket=bucket)
    except boto_errors() as error:
        if code_of(error) != "BucketAlreadyOwnedByYou":
            raise explained(error, f"s3://{bucket}") from None


def _copy_objects(source: ObjectStore, target: ObjectStore) -> None:
    for info in source.list("ledger/"):  # the first segment is there since the project is
        there = target.get_with_etag(info.key)
        if there is not None and there[0] != source.get(info.key):
            raise ConfigError(
                f"{target.url} holds another project: remove it, or give this project's folder another name.",
                kind="prefix_taken",
            )
        break

    def copy(key: str) -> None:
        path = source.local_path(key)
        assert path is not None
        if target.put_file_if_absent(key, path):
            return
        there, data = target.get_with_etag(key), path.read_bytes()
        if there is not None and there[0] != data:  # of a copy that was broken off, and outdated since
            target.put_if_match(key, data, there[1])

    with ThreadPoolExecutor(target.concurrency) as threads:
        for _ in threads.map(copy, [info.key for info in source.list("")]):
            pass
