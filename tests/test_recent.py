"""Recent values: what was used last stays, up to the bound."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

from refinery.recent import Recent


def test_what_was_used_last_stays_and_the_rest_is_read_again() -> None:
    read: list[str] = []
    recent: Recent[str] = Recent(6, len)

    def get(name: str) -> str:
        return recent.get(name, lambda: read.append(name) or name * 3)

    assert [get(name) for name in "abacb"] == ["aaa", "bbb", "aaa", "ccc", "bbb"]
    assert read == ["a", "b", "c", "b"], "b gave way to c, for a had been used after it"


def test_one_value_is_kept_though_it_is_over_the_bound() -> None:
    read: list[int] = []
    recent: Recent[bytes] = Recent(1, len)
    for _ in range(2):
        assert recent.get("large", lambda: read.append(1) or b"12345") == b"12345"
    assert len(read) == 1


def test_many_threads_are_given_what_they_ask_for() -> None:
    recent: Recent[str] = Recent(5, len)
    names = [str(n % 9) for n in range(3000)]
    with ThreadPoolExecutor(8) as pool:
        assert list(pool.map(lambda name: recent.get(name, lambda: name), names)) == names
    assert recent._total == sum(map(len, recent._values.values())) <= 5
