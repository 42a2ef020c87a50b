"""Plausible's APIs of version 1, translated to ours: the statistics (Stats API v1) and the sites (Sites API)."""
