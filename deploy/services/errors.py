"""The one error of this package."""

from __future__ import annotations


class ServiceError(Exception):
    """A server could not be installed or started; the message says what to do, or ends with what the server logged."""
