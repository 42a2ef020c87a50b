"""gunicorn settings of both apps. A setting that cannot be used ends the start with a message that names it."""

import os
import signal
from typing import Any

from config import metrics as _metrics  # noqa: F401 (it creates the folder that all processes share before the fork)
from config.logs import logging_config
from config.settings import load_settings_or_exit
from config.stacks import write_stacks_on_signal

settings = load_settings_or_exit()

worker_class = "web.gunicorn_worker.Worker"
workers = settings.web_concurrency
threads = settings.web_threads
preload_app = False  # clients are created after the fork
timeout = 30  # seconds; a process whose loop makes no progress for longer is replaced
graceful_timeout = 30  # seconds for running requests after a process was told to stop
control_socket_disable = True  # no control socket
# gunicorn believes headers from loopback by default. TRUSTED_PROXIES decides instead (web/app.py), and no header sets
# SCRIPT_NAME or PATH_INFO.
forwarded_allow_ips = ""
secure_scheme_headers: dict[str, str] = {}
forwarder_headers = ""
logger_class = "web.gunicorn_worker.QuietLogger"
logconfig_dict = logging_config(settings)

# Stop signals are blocked from before a process is forked until it handles them (web/gunicorn_worker.py). gunicorn
# loses a signal that arrives in between, and kills the process after graceful_timeout (one of three, signalled at
# once).
_STOPS = (signal.SIGTERM, signal.SIGINT, signal.SIGQUIT)


def on_starting(_server: Any) -> None:
    write_stacks_on_signal()
    os.register_at_fork(before=hold_stops, after_in_parent=let_stops_through)


def pre_exec(_server: Any) -> None:
    """A new gunicorn that replaces this one is forked too."""
    let_stops_through()


def hold_stops() -> None:
    signal.pthread_sigmask(signal.SIG_BLOCK, _STOPS)


def let_stops_through() -> None:
    signal.pthread_sigmask(signal.SIG_UNBLOCK, _STOPS)
