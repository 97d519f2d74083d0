"""OpenSearch behind TLS and credentials; secrets come from the environment or a file and show up nowhere."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from refinery.config import OpenSearchSettings
from refinery.errors import ConfigError, RefineryError, TransientError
from refinery.index.opensearch import OpenSearchIndex
from tests.auth_proxy import Allowed, AuthProxy, basic, sigv4
from tests.contract.indexes import FIELDS, documents

SECRET = "canary-7f3a9c-secret"
Front = Callable[[Allowed], AuthProxy]


@pytest.fixture
def front(opensearch_url: str, tmp_path: Path) -> Iterator[Front]:
    started: list[AuthProxy] = []

    def start(allowed: Allowed) -> AuthProxy:
        started.append(AuthProxy(opensearch_url, allowed, tmp_path).__enter__())
        return started[-1]

    yield start
    for proxy in started:
        proxy.__exit__()


@pytest.fixture
def name(opensearch_url: str) -> Iterator[str]:
    from opensearchpy import OpenSearch

    name = f"auth-{uuid.uuid4().hex[:12]}"
    yield name
    OpenSearch(opensearch_url).indices.delete(index=f"{name}.*", ignore_unavailable=True)


def settings(proxy: AuthProxy, name: str, **more: Any) -> OpenSearchSettings:
    return OpenSearchSettings(**{"url": proxy.url, "name": name, "ca": proxy.certificate, **more})


def works(index: OpenSearchIndex) -> bool:
    return len(index.upsert(documents(range(3))).written) == 3 and index.count() == 3


def told(index: OpenSearchIndex) -> RefineryError:
    with pytest.raises(RefineryError) as caught:
        index.count()
    assert SECRET not in str(caught.value) + repr(caught.value) + repr(caught.value.__cause__)
    return caught.value


def test_a_password_comes_from_the_environment(
    front: Front, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    proxy = front(basic("ana", SECRET))
    monkeypatch.setenv("OPENSEARCH_USERNAME", "ana")
    monkeypatch.setenv("OPENSEARCH_PASSWORD", SECRET)
    index = OpenSearchIndex(settings(proxy, name, auth="basic"), FIELDS)
    assert works(index)
    assert proxy.refused == 0
    assert SECRET not in repr(index) + repr(vars(index))


def test_a_password_comes_from_a_file(
    front: Front, name: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    proxy = front(basic("ana", SECRET))
    (tmp_path / "password").write_text(SECRET + "\n", encoding="utf-8")
    monkeypatch.setenv("OPENSEARCH_USERNAME", "ana")
    monkeypatch.setenv("OPENSEARCH_PASSWORD_FILE", str(tmp_path / "password"))
    assert works(OpenSearchIndex(settings(proxy, name, auth="basic"), FIELDS))


def test_a_wrong_password_is_a_config_error_that_does_not_show_it(
    front: Front, name: str, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    proxy = front(basic("ana", "another"))
    monkeypatch.setenv("OPENSEARCH_USERNAME", "ana")
    monkeypatch.setenv("OPENSEARCH_PASSWORD", SECRET)
    error = told(OpenSearchIndex(settings(proxy, name, auth="basic"), FIELDS))
    assert isinstance(error, ConfigError)
    assert error.kind == "index_denied"
    assert "OPENSEARCH_PASSWORD" in str(error)
    assert SECRET not in "".join(capfd.readouterr())


@pytest.mark.parametrize("missing", ["OPENSEARCH_USERNAME", "OPENSEARCH_PASSWORD"])
def test_a_missing_name_or_password_is_asked_for_by_variable(
    front: Front, name: str, monkeypatch: pytest.MonkeyPatch, missing: str
) -> None:
    proxy = front(basic("ana", SECRET))
    monkeypatch.setenv("OPENSEARCH_USERNAME", "ana")
    monkeypatch.setenv("OPENSEARCH_PASSWORD", SECRET)
    monkeypatch.delenv(missing)
    error = told(OpenSearchIndex(settings(proxy, name, auth="basic"), FIELDS))
    assert isinstance(error, ConfigError)
    assert missing in str(error)


def test_requests_are_signed_for_aws(front: Front, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    proxy = front(sigv4("AKIACANARY", SECRET, "eu-west-3", "es"))
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "AKIACANARY")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", SECRET)
    index = OpenSearchIndex(settings(proxy, name, auth="sigv4", region="eu-west-3"), FIELDS)
    assert works(index)
    assert proxy.refused == 0
    assert len(index.digests()) == 3
    assert SECRET not in repr(vars(index))


def test_a_wrong_signature_is_a_config_error(
    front: Front, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    proxy = front(sigv4("AKIACANARY", "another", "eu-west-3", "es"))
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "AKIACANARY")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", SECRET)
    error = told(OpenSearchIndex(settings(proxy, name, auth="sigv4", region="eu-west-3"), FIELDS))
    assert isinstance(error, ConfigError)


def test_a_certificate_nobody_vouches_for_is_refused(front: Front, name: str) -> None:
    proxy = front(lambda _handler, _body: True)
    error = told(OpenSearchIndex(settings(proxy, name, ca=None), FIELDS))
    assert isinstance(error, ConfigError)
    assert "ca" in str(error)
    assert proxy.passed == 0


def test_a_url_with_a_password_in_it_is_refused_without_repeating_it(name: str) -> None:
    with pytest.raises(ConfigError) as caught:
        OpenSearchIndex(
            OpenSearchSettings(url=f"https://ana:{SECRET}@127.0.0.1:9", name=name), FIELDS
        ).count()
    assert SECRET not in str(caught.value)
    assert "OPENSEARCH_PASSWORD" in str(caught.value)


def test_a_server_that_does_not_answer_is_worth_a_retry(name: str) -> None:
    index = OpenSearchIndex(OpenSearchSettings(url="http://127.0.0.1:9", name=name), FIELDS)
    assert isinstance(told(index), TransientError)
