"""deploy/compose.yaml, as far as it can be judged without Docker: what it says, and that all it names is there and works."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tomllib
import uuid
from pathlib import Path
from typing import Any

import pytest
import yaml

from refinery.config import load_settings
from refinery.project import Refinery
from tests.servers import S3Server

ROOT = Path(__file__).resolve().parent.parent
DEPLOY = ROOT / "deploy"
TEXT = (DEPLOY / "compose.yaml").read_text(encoding="utf-8")
COMPOSE: dict[str, Any] = yaml.safe_load(TEXT)
SERVICES: dict[str, dict[str, Any]] = COMPOSE["services"]
BINARIES = Path(sys.prefix) / "bin"
EVERY = pytest.mark.parametrize("name", SERVICES)
OURS = pytest.mark.parametrize("name", [n for n, s in SERVICES.items() if "build" in s])


def example() -> dict[str, str]:
    lines = (DEPLOY / "compose.env.example").read_text(encoding="utf-8").splitlines()
    return dict(line.split("=", 1) for line in lines if line and not line.startswith("#"))


def test_it_brings_up_all_that_a_project_on_servers_needs() -> None:
    assert SERVICES.keys() == {
        *("opensearch", "s3", "postgres"),
        *("project", "code", "webserver", "daemon", "viewer"),
    }


@EVERY
def test_every_image_is_pinned_by_a_version(name: str) -> None:
    image, _, tag = SERVICES[name]["image"].rpartition(":")
    assert image
    assert re.fullmatch(r"v?\d+(\.\d+)+(-[a-z]+)?", tag)


@OURS
def test_our_image_has_the_version_of_the_package(name: str) -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    assert SERVICES[name]["image"] == f"{project['name']}:{project['version']}"


def test_nothing_is_published_beyond_this_machine() -> None:
    published = {n: port for n, service in SERVICES.items() for port in service.get("ports", ())}
    assert published == {"webserver": "127.0.0.1:3000:3000", "viewer": "127.0.0.1:8501:8501"}
    assert not any(
        {"privileged", "network_mode", "cap_add", "devices"} & service.keys() for service in SERVICES.values()
    )


@EVERY
def test_secrets_come_from_the_env_file_alone(name: str) -> None:
    secret = re.compile(r"PASSWORD|SECRET|ACCESS_KEY|TOKEN")
    for variable, value in SERVICES[name].get("environment", {}).items():
        if secret.search(variable):
            assert re.fullmatch(r"\$\{[A-Z0-9_]+:\?set it in compose\.env\}", value), variable


def test_the_example_names_every_variable_and_gives_no_secret() -> None:
    assert set(re.findall(r"\$\{([A-Z0-9_]+)", TEXT)) == example().keys()
    assert {name for name, value in example().items() if not value} == {
        "PICTURES",
        "S3_SECRET_KEY",
        "POSTGRES_PASSWORD",
        "VIEWER_PASSWORD",
    }
    ignored = subprocess.run(["git", "check-ignore", "-q", "deploy/compose.env"], cwd=ROOT, check=False)
    assert ignored.returncode == 0


@EVERY
def test_every_service_says_whether_it_is_well_and_waits_for_those_that_do(name: str) -> None:
    service = SERVICES[name]
    ends = name == "project"
    assert ("healthcheck" in service) is not ends
    assert service["restart"] == ("no" if ends else "unless-stopped")
    for other, wanted in service.get("depends_on", {}).items():
        healthy = wanted["condition"] == "service_healthy"
        assert healthy or wanted["condition"] == "service_completed_successfully"
        assert ("healthcheck" in SERVICES[other]) is healthy


@EVERY
def test_every_volume_and_file_that_a_service_mounts_is_there(name: str) -> None:
    for mount in SERVICES[name].get("volumes", ()):
        source = re.sub(r"\$\{PICTURES:.*?\}", str(ROOT), mount).split(":")[0]
        assert source in COMPOSE["volumes"] or (DEPLOY / source).exists(), mount


@OURS
def test_every_command_is_installed_and_every_file_it_names_is_in_the_image(name: str) -> None:
    service = SERVICES[name]
    kept = {
        line[1:]
        for line in (DEPLOY / "Dockerfile.dockerignore").read_text(encoding="utf-8").splitlines()
        if line.startswith("!")
    }
    assert not [path for path in kept if not (ROOT / path).exists()]
    assert (COMPOSE["x-refinery"]["build"] | {"context": ".."}) == service["build"]
    assert (DEPLOY / service["build"]["context"] / service["build"]["dockerfile"]).is_file()
    for words in (service["command"], service.get("healthcheck", {"test": ["CMD", "python"]})["test"][1:]):
        program = ROOT / words[0] if "/" in words[0] else BINARIES / words[0]
        assert os.access(program, os.X_OK), program
        files = [word for word in words if re.fullmatch(r"(deploy|ui)/[\w./]+", word)]
        assert all((ROOT / path).is_file() and path.split("/")[0] in kept for path in files)


def test_the_workspace_is_the_service_that_serves_the_code() -> None:
    from dagster._core.workspace.load import location_origins_from_yaml_paths

    [origin] = location_origins_from_yaml_paths([str(DEPLOY / "workspace.yaml")])
    command = SERVICES["code"]["command"]
    assert getattr(origin, "host", None) == "code"
    assert getattr(origin, "port", None) == int(command[command.index("-p") + 1])


def test_dagster_takes_its_configuration(monkeypatch: pytest.MonkeyPatch) -> None:
    from dagster._config import process_config, resolve_to_config_type
    from dagster._core.instance.config import dagster_instance_config
    from dagster_postgres import DagsterPostgresStorage
    from sqlalchemy import create_engine

    found, _ = dagster_instance_config(str(DEPLOY))
    named = set(re.findall(r"env: (\w+)", (DEPLOY / "dagster.yaml").read_text(encoding="utf-8")))
    for name in named & SERVICES["webserver"]["environment"].keys():
        monkeypatch.setenv(name, name.lower())
    storage = process_config(
        resolve_to_config_type(DagsterPostgresStorage.config_type()), found["storage"]["postgres"]
    )
    assert storage.value, storage.errors
    postgres, database = SERVICES["postgres"]["environment"], storage.value["postgres_db"]
    assert (database["username"], database["db_name"]) == (postgres["POSTGRES_USER"], postgres["POSTGRES_DB"])
    assert create_engine(f"{database['scheme']}://nobody@nowhere/nothing"), "its driver is installed"


def test_the_first_start_makes_a_project_on_the_servers_and_the_next_leaves_it(
    s3_server: S3Server, bucket: str, opensearch_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    home = tmp_path / f"project-{uuid.uuid4().hex[:8]}"
    environment = {
        "PATH": f"{BINARIES}:{os.environ['PATH']}",
        "REFINERY_PROJECT": str(home),
        "REFINERY_STORE": f"s3://{bucket}/project",
        "OPENSEARCH_URL": opensearch_url,
        "AWS_ENDPOINT_URL_S3": s3_server.endpoint,
        "AWS_ACCESS_KEY_ID": s3_server.access_key,
        "AWS_SECRET_ACCESS_KEY": s3_server.secret_key,
        "HF_HUB_OFFLINE": "1",
    }
    for name, value in environment.items():
        monkeypatch.setenv(name, value)

    def start() -> str:
        done = subprocess.run([DEPLOY / "project.sh"], cwd=ROOT, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        return done.stdout

    assert "Made a project in" in start()
    project = Refinery.open(home)
    assert project.store.url == f"s3://{bucket}/project"
    assert str(project.settings.sources[0].path) == "/pictures"
    assert "caption" in project.fields
    written = (home / "refinery.yaml").read_text(encoding="utf-8")
    assert s3_server.secret_key not in written
    assert start() == ""
    assert (home / "refinery.yaml").read_text(encoding="utf-8") == written
    assert load_settings(home).index.kind == "opensearch"
