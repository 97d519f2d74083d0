"""`SampleIndex` on LanceDB in a local folder: no server, filter-first exact vector search, full text on text fields."""

from refinery.index.lancedb.index import LanceIndex

__all__ = ["LanceIndex"]
