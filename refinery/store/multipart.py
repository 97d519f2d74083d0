"""Large objects, sent to S3 in parts by several threads and completed under a condition."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import Executor
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from refinery.errors import TransientError
from refinery.s3 import boto_errors

MOST_PARTS = 10_000

ReadPart = Callable[[int, int], bytes]
"""The bytes of a body from an offset on, as many as asked for."""


@contextmanager
def parts_of_file(path: Path) -> Iterator[tuple[ReadPart, int]]:
    """A file as a body to be read in parts by any thread, and its size in bytes."""
    with path.open("rb") as file:
        size = os.fstat(file.fileno()).st_size

        def read(start: int, length: int) -> bytes:
            data = os.pread(file.fileno(), length, start)
            if len(data) != length:
                raise TransientError(
                    f"{path} changed while it was stored: do the same again.", kind="file_changed"
                )
            return data

        yield read, size


def parts_of_bytes(data: bytes) -> tuple[ReadPart, int]:
    """Bytes as a body to be read in parts, and their number."""
    return lambda start, length: data[start : start + length], len(data)


def send_parts(
    client: Any,
    target: Mapping[str, str],
    body: tuple[ReadPart, int],
    metadata: Mapping[str, str],
    condition: Mapping[str, str],
    *,
    part_bytes: int,
    threads: Executor,
) -> str:
    """Upload a body in parts to `target` (Bucket, Key) and make it an object if `condition` holds then; the new etag.

    Until then there is nothing to be listed or read. Errors are boto3's; the parts are dropped after one, as far as the
    service can be reached.
    """
    read, size = body
    part_bytes = max(part_bytes, -(-size // MOST_PARTS))
    started = client.create_multipart_upload(**target, Metadata=dict(metadata), ChecksumAlgorithm="CRC32")
    upload = {**target, "UploadId": started["UploadId"]}

    def send(number: int) -> dict[str, Any]:
        start = (number - 1) * part_bytes
        reply = client.upload_part(
            **upload,
            PartNumber=number,
            Body=read(start, min(part_bytes, size - start)),
            ChecksumAlgorithm="CRC32",
        )
        sums = {k: v for k, v in reply.items() if k == "ChecksumCRC32"}
        return {"PartNumber": number, "ETag": reply["ETag"], **sums}

    sent = [threads.submit(send, number) for number in range(1, -(-size // part_bytes) + 1)]
    try:
        parts = [future.result() for future in sent]
        reply = client.complete_multipart_upload(**upload, MultipartUpload={"Parts": parts}, **condition)
    except BaseException:
        for future in sent:
            future.cancel()
        for future in sent:
            with suppress(BaseException):
                future.result()
        _drop(client, upload)
        raise
    return str(reply["ETag"])


def _drop(client: Any, upload: Mapping[str, str]) -> None:
    with suppress(*boto_errors()):  # the bucket's lifecycle rule removes what stays
        client.abort_multipart_upload(**upload)
