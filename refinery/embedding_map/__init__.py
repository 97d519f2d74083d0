"""The map of an embedding space: each sample that has a vector has a place in the unit square, and near is alike.

Landmarks (a uniform sample) are laid out once by t-SNE; every other sample is placed among them by its vector alone, so that the
map does not move when batches come. It is a projection: it can be thrown away, and no step and no verdict asks for it.
"""

from refinery.embedding_map.embedding_map import LANDMARKS, EmbeddingMap, MapReport, MapStatus
from refinery.embedding_map.points import MAX_VERTICES, Points, Polygon

__all__ = ["LANDMARKS", "MAX_VERTICES", "EmbeddingMap", "MapReport", "MapStatus", "Points", "Polygon"]
