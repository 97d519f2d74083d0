"""The project that assets, checks and sensors work on."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from pathlib import Path

import dagster as dg
from dagster_aws.s3 import S3Resource

from refinery.errors import ConfigError
from refinery.progress import NullProgress, Progress
from refinery.project import Refinery

PROJECT_VARIABLE = "REFINERY_PROJECT"


MakeProgress = Callable[[str], Progress]
"""Given the name of a piece of work, where it reports that it moves."""


@dataclass(frozen=True, slots=True)
class _Attached:
    project: Refinery
    progress: MakeProgress
    workers: int


_attached: ContextVar[_Attached | None] = ContextVar("attached", default=None)


@contextmanager
def attached(project: Refinery, progress: MakeProgress | None = None, workers: int = 0) -> Iterator[None]:
    """Let everything that runs in this process inside the block use `project` as it is open already, with the models it
    has loaded, report long work to `progress`, and use `workers` threads (0: as many as there are cores)."""
    token = _attached.set(_Attached(project, progress or (lambda _title: NullProgress()), workers))
    try:
        yield
    finally:
        _attached.reset(token)


class RefineryResource(dg.ConfigurableResource):  # type: ignore[type-arg]
    """A project folder: `project`, or the environment variable REFINERY_PROJECT, read when it is opened.

    A project whose store is on S3 reaches it as its refinery.yaml says. Where a deployment has a
    `dagster_aws.s3.S3Resource` of its own (endpoint, region, profile or keys from `dg.EnvVar`, number of attempts), give
    it as `s3`: its client is then used for the store as it is, and refinery.yaml says only which bucket and prefix.
    """

    project: str | None = None
    s3: S3Resource | None = None

    def open(self) -> Refinery:
        """The project, opened now: what refinery.yaml says at this moment holds. ConfigError when none is named."""
        if (here := _attached.get()) is not None:
            return here.project
        folder = self.project or os.environ.get(PROJECT_VARIABLE)
        if not folder:
            raise ConfigError(
                f"No project is named: set {PROJECT_VARIABLE} to a folder with refinery.yaml, or start the UI with "
                "`make up PROJECT=DIR`.",
                kind="no_project",
            )
        return Refinery.open(Path(folder), s3=self.s3.get_client() if self.s3 else None)

    def progress(self, title: str) -> Progress:
        """Where a piece of long work reports that it moves."""
        here = _attached.get()
        return here.progress(title) if here else NullProgress()

    @property
    def workers(self) -> int:
        """How many threads a step may use; 0 means as many as there are cores."""
        here = _attached.get()
        return here.workers if here else 0
