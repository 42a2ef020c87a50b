"""The error that every part of `make run` raises if it cannot start."""


class StartError(Exception):
    """Footfall cannot be started. The message is one sentence for the operator: why, and what to do."""
