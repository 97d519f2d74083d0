"""Fixtures of the shard suites."""

from tests.formats.shards import records

__all__ = ["records"]
