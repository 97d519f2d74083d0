"""A prefix of a bucket as a source for suites, and what is taken in from it."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import Any

from refinery.batches import Batches
from refinery.config import S3Connection
from refinery.fields import Field, Fields, FieldType
from refinery.ingest import IngestReport, ingest
from refinery.sources import open_source
from refinery.sources.uris import uri_object
from refinery.store.local import LocalStore
from tests.servers import S3Server

FIELDS = Fields([Field("caption", FieldType.TEXT), Field("score", FieldType.NUMBER)])
CAP = 1 << 20
Rows = list[dict[str, Any]]


class Place:
    """A prefix of a bucket of the test's own."""

    def __init__(self, server: S3Server, bucket: str) -> None:
        self.server, self.bucket = server, bucket
        self.client: Any = server.client()
        self.endpoint = server.endpoint

    def fill(self, objects: dict[str, bytes]) -> None:
        """Put objects below the prefix by the rest of their keys."""

        def put(item: tuple[str, bytes]) -> None:
            self.client.put_object(Bucket=self.bucket, Key=f"in/{item[0]}", Body=item[1])

        with ThreadPoolExecutor(8) as pool:
            list(pool.map(put, objects.items()))

    def delete(self, name: str) -> None:
        self.client.delete_object(Bucket=self.bucket, Key=f"in/{name}")

    def source(self, below: str = "in", kind: str | None = None) -> Any:
        connection = S3Connection(endpoint=self.endpoint)
        return open_source(f"s3://{self.bucket}/{below}", name="far", kind=kind, connection=connection)

    def name(self, uri: str) -> str:
        """What comes after the prefix in the key of a uri."""
        return uri_object(uri)[1].removeprefix("in/")


def run(store: Any, source: Any, size: int = 100) -> IngestReport:
    return ingest(store, FIELDS, source, batch_size=size, max_bytes=CAP)


def rows(store: LocalStore) -> Rows:
    return Batches(store).origins().to_pylist()
