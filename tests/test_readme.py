"""What the documents say is done here, word for word: the README's commands in order, the formats' examples."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from refinery.corpus import CorpusReport
from refinery.digests import canonical_json, digest, digest_json
from refinery.states.merkle import set_digest
from refinery.states.rows import row_digests, rows_table
from tests.servers import S3Server

ROOT = Path(__file__).resolve().parent.parent
README = (ROOT / "README.md").read_text(encoding="utf-8")
FORMATS = (ROOT / "docs/formats.md").read_text(encoding="utf-8")


def blocks() -> list[tuple[str, str]]:
    """The fenced blocks of the README: (language, text)."""
    return re.findall(r"^```(\w*)\n(.*?)^```$", README, re.MULTILINE | re.DOTALL)


def is_make(text: str) -> bool:
    return all(command.startswith("make ") for command in text.splitlines())


def script() -> Iterator[str]:
    """All blocks as one shell script, `make` left out; each command is shown before it is run."""
    for language, text in blocks():
        if language == "python":
            yield f".venv/bin/python - <<'END-OF-BLOCK'\n{text}END-OF-BLOCK\n"
        elif not is_make(text):
            yield text


def test_every_block_is_run_or_is_a_make_target() -> None:
    targets = set(re.findall(r"^([a-z][a-z-]*):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    assert {language for language, _ in blocks()} == {"sh", "python"}
    for _, text in blocks():
        if is_make(text):
            words = [w for line in text.splitlines() for w in line.split()[1:] if "=" not in w]
            assert set(words) <= targets, text
        else:
            assert "make " not in text


@pytest.mark.timeout(900)
def test_every_command_of_the_readme_works_in_order(
    corpus: CorpusReport, tmp_path: Path, s3_server: S3Server, opensearch_url: str, bucket: str
) -> None:
    installed = Path(sys.prefix) / "bin" / "refinery"
    if not installed.exists():
        pytest.skip("refinery is not installed in this environment: `make build` installs it")
    from opensearchpy import OpenSearch

    servers = {
        "BUCKET": bucket,
        "S3_URL": s3_server.endpoint,
        "OPENSEARCH_URL": opensearch_url,
        "AWS_ACCESS_KEY_ID": s3_server.access_key,
        "AWS_SECRET_ACCESS_KEY": s3_server.secret_key,
    }
    OpenSearch(opensearch_url).indices.delete(index="on-servers.*")
    (tmp_path / ".venv").symlink_to(sys.prefix)
    shutil.copytree(corpus.folder, tmp_path / "home" / "Pictures")
    done = subprocess.run(
        ["bash", "-euo", "pipefail", "-x", "-c", "".join(script())],
        cwd=tmp_path,
        env={
            **os.environ,
            **servers,
            "HOME": str(tmp_path / "home"),
            "HF_HUB_OFFLINE": "1",
            "PYTHONPATH": "",
        },
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    said = done.stdout
    roots = re.findall(r"^root ([0-9a-f]{64})  \(", said, re.MULTILINE)
    first, flagged, undone, reviewed, flagged_again, on_servers = roots
    assert first == undone == reviewed, "undo brings back the former root, and a review holds nothing"
    assert flagged == flagged_again != first
    assert on_servers == first, "servers change nothing of what a project comes to"
    assert "flag reject by person" in said
    assert "train@1 → train@2  0 added, 1 removed, 0 changed" in said
    assert "bytes, untouched" in said


def test_the_pictures_and_documents_that_the_readme_shows_are_there() -> None:
    links = [link.split("#")[0] for link in re.findall(r"\]\((?!https?:)([^)]+)\)", README)]
    missing = [link for link in links if link and not (ROOT / link).exists()]
    assert not missing


def test_the_examples_of_the_formats_hold() -> None:
    value = {"b": [1, 2.5, 1.0, 1e16, 1e-5, True, None], "a": 'é"\\\n\x01'}
    assert f"\n    {canonical_json(value).decode()}\n" in FORMATS
    assert digest(b"") in FORMATS
    assert digest_json({}) == digest(b"{}")
    lines = [json.loads(line) for line in re.findall(r'^    (\{"attributes".*\})$', FORMATS, re.MULTILINE)]
    rows = rows_table(lines)
    assert [canonical_json(row).decode() for row in rows.to_pylist()] == [
        canonical_json(line).decode() for line in lines
    ]
    ids = [bytes.fromhex(i) for i in rows["sample_id"].to_pylist()]
    assert f"have the root `{set_digest(ids, row_digests(rows)).hex()}`" in FORMATS
    assert f"`{set_digest(ids[:1], row_digests(rows)[:1]).hex()}`" in FORMATS


def test_every_format_version_of_the_code_is_in_the_formats() -> None:
    code = "".join(path.read_text(encoding="utf-8") for path in (ROOT / "refinery").rglob("*.py"))
    versions = set(re.findall(r'"(refinery\.[a-z]+/\d+)"', code))
    assert versions
    assert not {version for version in versions if f"`{version}`" not in FORMATS}
