"""Our own pieces of page, in JavaScript: what Streamlit has no widget for. Each is made of .js files and a .css file of this
folder; its last script has the entry."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import streamlit as st

_HERE = Path(__file__).resolve().parent
_SCRIPTS = {
    "cookie": ("cookie",),
    "desk": ("dom", "memory", "tiles", "desk"),
    "picture": ("dom", "picture"),
    "sankey": ("sankey",),
    "scatter": ("dom", "lasso", "scatter"),
}


def mount(name: str, key: str, data: dict[str, Any], **callbacks: Any) -> Any:
    """Show a component of `_SCRIPTS`. `data` is JSON that its script reads (and shows as text only);
    `callbacks` are those of `st.components.v2`. Returns the component's state."""
    component = st.components.v2.component(
        f"refinery_{name}",
        css=(_HERE / f"{name}.css").read_text(encoding="utf-8"),
        js="\n".join((_HERE / f"{part}.js").read_text(encoding="utf-8") for part in _SCRIPTS[name]),
    )
    return component(key=key, data=data, **callbacks)
