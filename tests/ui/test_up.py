"""`make up` as a process: Dagster and the viewer come up together and go together."""

from __future__ import annotations

import urllib.error
import urllib.request
from pathlib import Path

import pytest
from dagster_ui import up_with_viewer

pytestmark = [pytest.mark.xdist_group("dagster ui"), pytest.mark.timeout(600)]


def answers(address: str) -> bool:
    try:
        with urllib.request.urlopen(address, timeout=10) as answer:
            return bool(answer.status == 200)
    except (urllib.error.URLError, ConnectionError):
        return False


def test_dagster_and_the_viewer_come_up_together_and_go_together(refined: Path) -> None:
    with up_with_viewer(refined) as (dagster, viewer):
        assert answers(f"{dagster}/server_info")
        assert answers(f"{viewer}/_stcore/health")
    assert not answers(f"{dagster}/server_info")
    assert not answers(f"{viewer}/_stcore/health")
