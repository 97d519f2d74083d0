"""The servers of `deploy.services`: they stay on this machine, keep their data, and leave with whoever started them."""

from __future__ import annotations

import os
import re
import signal
import socket
import stat
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from deploy.services import MinioServer, OpenSearchServer, Servers, ServiceError, install, java
from deploy.services.process import answers, is_free
from deploy.services.servers import missing, scratch_folder
from tests.servers import S3Server

ROOT = Path(__file__).resolve().parent.parent
NAMED = {
    "REFINERY_TEST_OPENSEARCH_URL": "http://127.0.0.1:9",
    "REFINERY_TEST_S3_URL": "http://127.0.0.1:9",
    "REFINERY_TEST_S3_ACCESS_KEY": "somebody",
    "REFINERY_TEST_S3_SECRET_KEY": "something",
}
# 127.0.0.1 as the kernel writes it, the same from a socket that speaks IPv6, and ::1
LOOPBACK = {"0100007F", "0000000000000000FFFF00000100007F", "00000000000000000000000001000000"}
# OpenSearch takes its time to start: where one server is enough to see, `run` is told of one that it does not look at
ONLY_S3 = {"REFINERY_TEST_OPENSEARCH_URL": NAMED["REFINERY_TEST_OPENSEARCH_URL"]}


def eventually(condition: Callable[[], bool], seconds: float = 30) -> bool:
    """Whether the condition comes true in time."""
    until = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > until:
            return False
        time.sleep(0.05)
    return True


def client(server: MinioServer) -> Any:
    return S3Server(server.endpoint, server.access_key, server.secret_key).client()


def listeners(port: int) -> set[str]:
    """The addresses, as the kernel writes them, on which anybody listens on this port."""
    lines = [
        line.split()
        for name in ("tcp", "tcp6")
        for line in Path("/proc/net", name).read_text(encoding="ascii").splitlines()[1:]
    ]
    return {line[1].split(":")[0] for line in lines if line[3] == "0A" and line[1].endswith(f":{port:04X}")}


def run_beside(tmp_path: Path, *command: str, environment: dict[str, str]) -> subprocess.Popen[str]:
    """`deploy.services run`, in a temporary folder of its own, with nothing of the servers that this suite has."""
    mine = {name: value for name, value in os.environ.items() if name not in NAMED}
    return subprocess.Popen(
        [sys.executable, "-m", "deploy.services", "run", "--", *command],
        cwd=ROOT,
        env={**mine, "TMPDIR": str(tmp_path), **environment},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        process_group=0,
    )


@pytest.fixture
def minio(tmp_path: Path) -> Iterator[MinioServer]:
    """A MinIO of the test's own."""
    with MinioServer(tmp_path / "minio") as server:
        yield server


def test_a_server_listens_on_this_machine_alone(minio: MinioServer) -> None:
    found = listeners(minio.port)
    assert found
    assert found <= LOOPBACK


def test_a_server_chooses_a_port_that_no_outgoing_connection_can_take(minio: MinioServer) -> None:
    least = int(Path("/proc/sys/net/ipv4/ip_local_port_range").read_text(encoding="ascii").split()[0])
    assert 1024 < minio.port < least


def test_starting_twice_is_starting_once(minio: MinioServer) -> None:
    before = minio.port
    client(minio).create_bucket(Bucket="bucket")
    minio.start()
    assert minio.port == before
    assert [b["Name"] for b in client(minio).list_buckets()["Buckets"]] == ["bucket"]


def test_a_killed_server_comes_back_where_it_was_with_all_it_had(minio: MinioServer) -> None:
    before = minio.url
    client(minio).create_bucket(Bucket="bucket")
    client(minio).put_object(Bucket="bucket", Key="key", Body=b"acknowledged")
    minio.kill()
    assert not minio.running
    assert is_free(minio.port)
    minio.start()
    assert minio.url == before
    assert client(minio).get_object(Bucket="bucket", Key="key")["Body"].read() == b"acknowledged"


def test_a_server_survives_the_thread_that_started_it(tmp_path: Path) -> None:
    server = MinioServer(tmp_path)
    thread = threading.Thread(target=server.start)
    thread.start()
    thread.join()
    try:
        assert answers(server.port, "/minio/health/ready")
    finally:
        server.stop()
    assert is_free(server.port)


def test_each_server_has_a_port_and_a_secret_of_its_own(minio: MinioServer, tmp_path: Path) -> None:
    with MinioServer(tmp_path / "other") as other:
        assert other.port != minio.port
        assert other.secret_key != minio.secret_key


def test_a_port_that_somebody_else_has_is_named(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as somebody:
        port = somebody.getsockname()[1]
        with pytest.raises(ServiceError, match=f"127.0.0.1:{port}, but somebody else does"):
            MinioServer(tmp_path, port).start()


def test_a_server_that_does_not_start_says_what_it_logged(tmp_path: Path) -> None:
    server = MinioServer(tmp_path, secret_key="short")
    with pytest.raises(ServiceError, match=r"(?s)MinIO ended with exit code \d+.*at least 8 characters"):
        server.start()
    assert not server.running


def test_run_gives_back_the_exit_code_and_leaves_nothing_behind(tmp_path: Path) -> None:
    running = run_beside(
        tmp_path,
        *("sh", "-c", "echo $REFINERY_TEST_S3_URL $REFINERY_TEST_S3_SECRET_KEY; exit 7"),
        environment=ONLY_S3,
    )
    said, _ = running.communicate(timeout=60)
    assert running.returncode == 7, said
    [(port, secret)] = re.findall(r"^http://127.0.0.1:(\d+) (\w{40})$", said, re.MULTILINE)
    assert is_free(int(port))
    assert "starting MinIO …" in said
    assert not list(tmp_path.glob("refinery-servers-*"))
    [logs] = tmp_path.glob("refinery-logs-*")
    assert f"the servers' logs are in {logs}" in said
    assert (logs / "s3/log").exists()
    assert not [path for path in logs.rglob("*") if path.is_file() and secret in path.read_text()]


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGKILL])
def test_whatever_ends_run_ends_its_command_and_its_servers(tmp_path: Path, number: signal.Signals) -> None:
    command = 'echo $REFINERY_TEST_S3_URL; echo "pid $$"; exec sleep 600'
    running = run_beside(tmp_path, "sh", "-c", command, environment=ONLY_S3)
    assert running.stdout is not None
    lines = [running.stdout.readline() for _ in range(3)]
    port, pid = int(lines[1].rsplit(":", 1)[1]), int(lines[2].split()[1])
    if number == signal.SIGINT:  # as a terminal does: to both
        os.killpg(running.pid, number)
    else:
        running.send_signal(number)
    code = running.wait(60)
    running.stdout.close()
    assert code == {signal.SIGTERM: 143, signal.SIGINT: 130, signal.SIGKILL: -signal.SIGKILL}[number]
    assert eventually(lambda: is_free(port))
    assert eventually(lambda: not Path(f"/proc/{pid}").exists() or "Z" in _state(pid))


def test_an_interrupted_command_is_never_taken_for_one_that_succeeded(tmp_path: Path) -> None:
    codes = set()
    for _ in range(20):  # the moment at which its end and our signal coincide is not hit each time
        running = run_beside(tmp_path, "sh", "-c", "echo ready; exec sleep 600", environment=NAMED)
        assert running.stdout is not None
        assert running.stdout.readline() == "ready\n"
        os.killpg(running.pid, signal.SIGINT)
        codes.add(running.wait(60))
        running.stdout.close()
    assert codes == {130}


def _state(pid: int) -> str:
    return Path(f"/proc/{pid}/stat").read_text(encoding="ascii").rsplit(")", 1)[1].split()[0]


def test_run_uses_the_servers_that_the_environment_names(tmp_path: Path) -> None:
    running = run_beside(tmp_path, "sh", "-c", "env | grep ^REFINERY_TEST_ | sort", environment=NAMED)
    said, _ = running.communicate(timeout=60)
    assert running.returncode == 0
    assert said.splitlines() == sorted(f"{name}={value}" for name, value in NAMED.items())


def test_a_command_that_does_not_exist_is_said(tmp_path: Path) -> None:
    running = run_beside(tmp_path, "no-such-command", environment=NAMED)
    said, _ = running.communicate(timeout=60)
    assert running.returncode == 1
    assert said == "✗ no-such-command cannot be run: No such file or directory.\n"


def test_an_s3_server_named_by_halves_is_an_error() -> None:
    assert missing({}) == (True, True)
    assert missing(NAMED) == (False, False)
    with pytest.raises(ServiceError, match="only REFINERY_TEST_S3_URL is set"):
        missing({"REFINERY_TEST_S3_URL": "http://127.0.0.1:9"})


def test_what_a_killed_run_left_is_removed_by_the_next(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    left = tmp_path / f"refinery-servers-{os.geteuid()}-left"
    (left / "s3/data").mkdir(parents=True)
    with scratch_folder() as one, scratch_folder() as other:
        assert one != other
        assert one.exists()
        assert not left.exists()
    assert not list(tmp_path.iterdir())


def test_lasting_servers_keep_ports_and_credentials_to_their_owner(tmp_path: Path) -> None:
    first, second = Servers.lasting(tmp_path / "servers"), Servers.lasting(tmp_path / "servers")
    assert first.for_clients() == second.for_clients()
    assert stat.S_IMODE((tmp_path / "servers/environment").stat().st_mode) == 0o600
    assert len({first.opensearch.port, first.s3.port}) == 2
    (tmp_path / "servers/environment").write_text("AWS_ACCESS_KEY_ID=refinery\n", encoding="utf-8")
    with pytest.raises(ServiceError, match="is not as it was written"):
        Servers.lasting(tmp_path / "servers")


def test_an_installation_is_there_whole_or_not_at_all(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    made: list[str] = []

    def broken(folder: Path) -> None:
        (folder / "half").write_text("half", encoding="utf-8")
        raise ServiceError("no network")

    def works(folder: Path) -> None:
        made.append(folder.name)
        (folder / "whole").write_text("whole", encoding="utf-8")

    with pytest.raises(ServiceError, match="no network"):
        install.installed("thing-1", ("recipe",), broken)
    assert [path.name for path in (tmp_path / "refinery/services").iterdir()] == ["thing-1.lock"]
    threads = [
        threading.Thread(target=install.installed, args=("thing-1", ("recipe",), works)) for _ in range(4)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    place = install.installed("thing-1", ("recipe",), broken)
    assert (made, (place / "whole").read_text(encoding="utf-8")) == (["thing-1"], "whole")
    install.installed("thing-1", ("another recipe",), works)
    assert made == ["thing-1", "thing-1"]


def test_the_newest_java_that_opensearch_is_known_to_run_on_is_taken(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def home(version: int) -> Path:
        binary = tmp_path / f"jdk-{version}/bin/java"
        binary.parent.mkdir(parents=True, exist_ok=True)
        binary.write_text(f"#!/bin/sh\necho 'openjdk version \"{version}.0.1\"' >&2\n", encoding="utf-8")
        binary.chmod(0o755)
        return tmp_path / f"jdk-{version}"

    def chosen(*versions: int) -> str:
        homes = [home(version) for version in versions]
        monkeypatch.setattr(java, "_homes", lambda: iter(homes))
        return java.find_java().name

    monkeypatch.delenv("OPENSEARCH_JAVA_HOME", raising=False)
    assert chosen(17, 21, 25, 27) == "jdk-25"
    assert chosen(27, 17) == "jdk-27"
    with pytest.raises(ServiceError, match=r"needs Java 21 or newer.*OPENSEARCH_JAVA_HOME"):
        chosen(11, 17)
    monkeypatch.setenv("OPENSEARCH_JAVA_HOME", str(tmp_path / "jdk-17"))
    assert chosen(25) == "jdk-17"


def test_nothing_here_names_a_host_to_download_from() -> None:
    paths = [ROOT / "Makefile", *(ROOT / "deploy").rglob("*.sh"), *(ROOT / "deploy/services").glob("*.py")]
    hosts = {
        host
        for path in paths
        for host in re.findall(r"https?://([^/:\s\"']+)", path.read_text(encoding="utf-8"))
    }
    assert hosts == {"127.0.0.1"}


@pytest.mark.heavy
def test_opensearch_killed_keeps_what_it_acknowledged_and_takes_settings(tmp_path: Path) -> None:
    from opensearchpy import OpenSearch

    settings = {"thread_pool.write.queue_size": 321}
    with OpenSearchServer(tmp_path, heap="512m", settings=settings, quick=True) as server:
        assert listeners(server.port)
        assert listeners(server.port) <= LOOPBACK
        found = OpenSearch(server.url, timeout=60)
        assert [row["component"] for row in found.cat.plugins(format="json")] == ["opensearch-knn"]
        [node] = found.nodes.info(metric="process,jvm,thread_pool")["nodes"].values()
        assert node["thread_pool"]["write"]["queue_size"] == 321
        assert node["jvm"]["mem"]["heap_max_in_bytes"] == 512 << 20
        assert "Uid:\t0" not in Path(f"/proc/{node['process']['id']}/status").read_text(encoding="ascii")
        found.index(index="things", id="1", body={"word": "acknowledged"})
        before = server.url
        server.kill()
        assert is_free(server.port)
        server.start()
        assert server.url == before
        assert found.get(index="things", id="1")["_source"] == {"word": "acknowledged"}
        server.stop()
        assert is_free(server.port)
