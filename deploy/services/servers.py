"""Both servers together: thrown away afterwards, or with data that last."""

from __future__ import annotations

import fcntl
import os
import secrets
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import BinaryIO, Self

from deploy.services.errors import ServiceError
from deploy.services.minio import MinioServer
from deploy.services.opensearch import OpenSearchServer
from deploy.services.process import free_port

OPENSEARCH_URL = "REFINERY_TEST_OPENSEARCH_URL"
S3_VARIABLES = ("REFINERY_TEST_S3_URL", "REFINERY_TEST_S3_ACCESS_KEY", "REFINERY_TEST_S3_SECRET_KEY")

_FOLDER = f"refinery-servers-{os.geteuid()}-"
_ENVIRONMENT = "environment"


class Servers:
    """OpenSearch and MinIO below one folder: `opensearch` and `s3`. A `with` block starts them and kills them after."""

    def __init__(self, folder: Path, *, heap: str = "1g", quick: bool = False) -> None:
        self.opensearch = OpenSearchServer(folder / "opensearch", heap=heap, quick=quick)
        self.s3 = MinioServer(folder / "s3")

    @classmethod
    def lasting(cls, folder: Path, *, heap: str = "1g") -> Self:
        """Servers whose ports and credentials stay as they are, kept in `folder/environment` for their owner alone."""
        folder = folder.absolute()
        folder.mkdir(parents=True, exist_ok=True)
        kept = folder / _ENVIRONMENT
        if not kept.exists():
            (folder / ".gitignore").write_text("*\n", encoding="utf-8")
            _write_private(kept, _fresh_environment())
        found = dict(
            line.split("=", 1) for line in kept.read_text(encoding="utf-8").splitlines() if "=" in line
        )
        servers = cls(folder, heap=heap)
        try:
            servers.opensearch = OpenSearchServer(
                folder / "opensearch", _port(found["OPENSEARCH_URL"]), heap=heap
            )
            servers.s3 = MinioServer(
                folder / "s3",
                _port(found["AWS_ENDPOINT_URL_S3"]),
                access_key=found["AWS_ACCESS_KEY_ID"],
                secret_key=found["AWS_SECRET_ACCESS_KEY"],
            )
        except (KeyError, ValueError):
            raise ServiceError(
                f"{kept} is not as it was written: remove {folder}, and begin with empty servers."
            ) from None
        return servers

    @property
    def opensearch_url(self) -> str:
        """Where OpenSearch answers."""
        return self.opensearch.url

    def start(self) -> None:
        """Start both; neither runs when one fails."""
        try:
            self.opensearch.start()
            self.s3.start()
        except BaseException:
            self.kill()
            raise

    def kill(self) -> None:
        """End both at once."""
        self.s3.kill()
        self.opensearch.kill()

    def stop(self) -> None:
        """End both in order."""
        self.s3.stop()
        self.opensearch.stop()

    def for_tests(self) -> dict[str, str]:
        """Where tests look for the servers that run."""
        found = {}
        if self.opensearch.running:
            found[OPENSEARCH_URL] = self.opensearch.url
        if self.s3.running:
            found |= dict(
                zip(S3_VARIABLES, (self.s3.url, self.s3.access_key, self.s3.secret_key), strict=True)
            )
        return found

    def for_clients(self) -> dict[str, str]:
        """The environment in which boto3 and the refinery find the servers."""
        return {
            "AWS_ACCESS_KEY_ID": self.s3.access_key,
            "AWS_SECRET_ACCESS_KEY": self.s3.secret_key,
            "AWS_ENDPOINT_URL_S3": self.s3.endpoint,
            "OPENSEARCH_URL": self.opensearch_url,
        }

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.kill()


def missing(environment: Mapping[str, str]) -> tuple[bool, bool]:
    """Whether (OpenSearch, S3) are not named by the environment. ServiceError when S3 is named by halves."""
    named = [name for name in S3_VARIABLES if environment.get(name)]
    if named and len(named) < len(S3_VARIABLES):
        raise ServiceError(f"{', '.join(S3_VARIABLES)} belong together, but only {', '.join(named)} is set.")
    return not environment.get(OPENSEARCH_URL), not named


@contextmanager
def scratch_folder() -> Iterator[Path]:
    """A temporary folder. Those that killed processes left are removed first."""
    root = Path(tempfile.gettempdir())
    for left in root.glob(f"{_FOLDER}*"):
        _remove_if_abandoned(left)
    folder = Path(tempfile.mkdtemp(prefix=_FOLDER))
    try:
        with _hold(folder):
            yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def keep_logs(folder: Path) -> Path:
    """Copy the servers' logs out of a folder that is about to go; where to."""
    kept = Path(tempfile.mkdtemp(prefix="refinery-logs-"))
    for path in folder.rglob("*"):
        if path.is_file() and (path.name == "log" or path.parent.name == "logs"):
            target = kept / path.relative_to(folder)
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(path, target)
    return kept


@contextmanager
def _hold(folder: Path) -> Iterator[BinaryIO]:
    with (folder / "lock").open("wb") as file:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        yield file


def _remove_if_abandoned(folder: Path) -> None:
    try:
        with _hold(folder):
            shutil.rmtree(folder, ignore_errors=True)
    except OSError:  # somebody's, alive
        return


def _fresh_environment() -> str:
    return (
        "# Of the servers of this folder; `set -a; . FILE; set +a` lets a shell use them.\n"
        "AWS_ACCESS_KEY_ID=refinery\n"
        f"AWS_SECRET_ACCESS_KEY={secrets.token_hex(20)}\n"
        f"AWS_ENDPOINT_URL_S3=http://127.0.0.1:{free_port()}\n"
        f"OPENSEARCH_URL=http://127.0.0.1:{free_port()}\n"
    )


def _write_private(path: Path, text: str) -> None:
    """Write a file that only its owner may read, whole or not at all."""
    fresh = path.with_name(f"{path.name}.{secrets.token_hex(8)}")
    with os.fdopen(
        os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w", encoding="utf-8"
    ) as file:
        file.write(text)
    fresh.replace(path)


def _port(url: str) -> int:
    return int(url.rsplit(":", 1)[1])
