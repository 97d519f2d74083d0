"""Pictures made to take all memory or all time, each from a few bytes or, where many bytes are the point, from many.

Every bomb names the reasons that may come of it; `None` is a picture that is allowed to be large.
"""

from __future__ import annotations

from tests.hardening import bombs_jpeg_png, bombs_others
from tests.hardening.registry import BOMBS, HUGE

__all__ = ["BOMBS", "HUGE", "bombs_jpeg_png", "bombs_others"]
