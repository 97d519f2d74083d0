"""Dagster resources of the code location: each connects when a run opens it, never at import."""

from resources.refinery import RefineryResource, attached

__all__ = ["RefineryResource", "attached"]
