"""gunicorn's settings for both apps. A bad setting stops the start, named."""

import os
import signal
from typing import Any

from config import metrics as _metrics  # noqa: F401 (the folder that all processes share is made before the fork)
from config.logs import logging_config
from config.settings import load_settings_or_exit
from config.stacks import write_stacks_on_signal

settings = load_settings_or_exit()

worker_class = "web.gunicorn_worker.Worker"  # gthread; Flask costs about 1.3 ms of CPU a request with any worker class
workers = settings.web_concurrency
threads = settings.web_threads
preload_app = False  # clients are made after the fork
keepalive = 65  # seconds; above a proxy's usual 60, so that the proxy closes first
timeout = 30  # a process whose loop stands still this long is replaced
graceful_timeout = 30  # what a request has to finish in when its process is told to stop
control_socket_disable = True  # no second way in
# gunicorn believes loopback by default. Who may say what is TRUSTED_PROXIES' to decide (web/app.py), and no header sets
# SCRIPT_NAME or PATH_INFO.
forwarded_allow_ips = ""
secure_scheme_headers: dict[str, str] = {}
forwarder_headers = ""
logger_class = "web.gunicorn_worker.QuietLogger"
logconfig_dict = logging_config(settings)

# What tells a process to stop waits from before it is forked until it listens (web/gunicorn_worker.py). gunicorn itself
# loses it where it comes in between, and kills the process after graceful_timeout (one of three, told at once).
_STOPS = (signal.SIGTERM, signal.SIGINT, signal.SIGQUIT)


def on_starting(_server: Any) -> None:
    write_stacks_on_signal()
    os.register_at_fork(before=hold_stops, after_in_parent=let_stops_through)


def pre_exec(_server: Any) -> None:
    """A new gunicorn in place of this one is forked too."""
    let_stops_through()


def hold_stops() -> None:
    signal.pthread_sigmask(signal.SIG_BLOCK, _STOPS)


def let_stops_through() -> None:
    signal.pthread_sigmask(signal.SIG_UNBLOCK, _STOPS)
