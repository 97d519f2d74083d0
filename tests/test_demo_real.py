"""The demo on servers ends where the embedded one does."""

from __future__ import annotations

import json
import uuid
from pathlib import Path
from typing import Any

import pytest
from opensearchpy import OpenSearch

from assets import demo, twin
from tests.servers import S3Server


@pytest.mark.heavy
@pytest.mark.timeout(1800)
@pytest.mark.usefixtures("aws")
def test_the_demo_on_servers_ends_with_the_roots_and_shards_of_the_embedded_one(
    s3_server: S3Server,
    bucket: str,
    opensearch_url: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(twin, "BUCKET", bucket)
    monkeypatch.setenv("AWS_ENDPOINT_URL_S3", s3_server.endpoint)
    monkeypatch.setenv("OPENSEARCH_URL", opensearch_url)

    def run(home: Path, backend: str) -> dict[str, Any]:
        monkeypatch.setattr(
            "sys.argv", ["demo", "--project", str(home), "--size", "small", "--backend", backend]
        )
        demo.main()
        found: dict[str, Any] = json.loads((home / "summary.json").read_text(encoding="utf-8"))
        return found

    embedded = run(tmp_path / "demo", "embedded")
    home = tmp_path / f"demo-{uuid.uuid4().hex[:8]}-real"
    real = run(home, "real")
    assert real["roots"] == embedded["roots"], "snapshots, and every file of every export"
    assert real["exports"] == embedded["exports"]
    assert f"s3://{bucket}/{home.name}/exports/demo@1/" in capsys.readouterr().out
    assert run(home, "real") == real
    assert "0 facts recomputed; roots are the same as before" in capsys.readouterr().out
    OpenSearch(opensearch_url).indices.delete(index=f"{home.name}*", expand_wildcards="all")
