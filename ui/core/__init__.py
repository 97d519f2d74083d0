"""The viewer without its pages: what the URL says, what is found, and what people do. Knows nothing of Streamlit."""

from ui.core.acts import NEED_REASON, Act, Acts
from ui.core.policies import Adoption, Draft
from ui.core.screen import DENSITIES, FACETS, Screen, quoted
from ui.core.viewer import Results, Stage, Viewer, default_name

__all__ = [
    "DENSITIES",
    "FACETS",
    "NEED_REASON",
    "Act",
    "Acts",
    "Adoption",
    "Draft",
    "Results",
    "Screen",
    "Stage",
    "Viewer",
    "default_name",
    "quoted",
]
