"""How long to wait before trying again what a server refused or broke off."""

from __future__ import annotations

import random


def wait(attempt: int, first: float = 0.1, longest: float = 5.0) -> float:
    """Seconds to wait after attempt `attempt` (from 0): twice as long each time, never the same for all who wait."""
    return float(random.uniform(0.5, 1.0) * min(first * 2**attempt, longest))
