class StartError(Exception):
    """Footfall cannot be started. The message is one sentence for the operator: why, and what to do."""
