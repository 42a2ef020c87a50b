"""Flower's settings. It has no password of its own by default: keep it on loopback, or set FLOWER_BASIC_AUTH."""

from config.settings import load_settings

settings = load_settings()

address = settings.bind_host
port = settings.flower_port
logging = "error"  # its INFO is a banner and a line for each inspection of a worker that is not up yet
