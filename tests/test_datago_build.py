"""The package without its extension, and the face the package shows."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import datago


def test_an_import_without_the_built_extension_says_how_to_build(tmp_path: Path) -> None:
    source = Path(datago.__file__).parent
    copy = tmp_path / "datago"
    copy.mkdir()
    for path in source.glob("*.py"):
        (copy / path.name).write_text(path.read_text())
    done = subprocess.run(
        [sys.executable, "-c", f"import sys; sys.path.insert(0, {str(tmp_path)!r}); import datago"],
        capture_output=True,
        text=True,
        cwd=tmp_path,
        check=False,
    )
    assert done.returncode == 1
    last = done.stderr.strip().splitlines()[-1]
    assert last.startswith("ImportError: ")
    assert "make build" in last


def test_every_public_name_exists_and_is_documented() -> None:
    for name in datago.__all__:
        assert getattr(datago, name).__doc__, name


def test_every_error_tells_what_a_handler_needs() -> None:
    for error, kind, retryable in (
        (datago.ConfigError, "config", False),
        (datago.InputError, "input", False),
        (datago.StorageError, "storage", True),
    ):
        assert issubclass(error, datago.DatagoError)
        assert (error.kind, error.retryable) == (kind, retryable)


def test_no_source_file_is_longer_than_a_reader_can_hold() -> None:
    folder = Path(datago.__file__).parent
    for path in [*folder.glob("*.py"), *folder.glob("src/**/*.rs")]:
        assert len(path.read_text().splitlines()) <= 400, path
