"""Our own pieces of page, in JavaScript: what Streamlit has no widget for. Each is a .js and a .css file of this folder."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import streamlit as st

_HERE = Path(__file__).resolve().parent


def mount(name: str, key: str, data: dict[str, Any], **callbacks: Any) -> Any:
    """Show the component in `name`.js with `name`.css. `data` is JSON that its script reads (and shows as text only);
    `callbacks` are those of `st.components.v2`. Returns the component's state."""
    component = st.components.v2.component(
        f"refinery_{name}",
        css=(_HERE / f"{name}.css").read_text(encoding="utf-8"),
        js=(_HERE / f"{name}.js").read_text(encoding="utf-8"),
    )
    return component(key=key, data=data, **callbacks)
