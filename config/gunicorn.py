"""gunicorn settings of both apps. A setting that cannot be used ends the start with a message that names it."""

import importlib
import os
import signal
import sys
from typing import Any

from config import metrics as _metrics  # noqa: F401 (it creates the folder that all processes share before the fork)
from config.logs import logging_config
from config.settings import SettingsError, load_settings_or_exit
from config.shared_memory import share_memory_with_children
from config.stacks import write_stacks_on_signal

settings = load_settings_or_exit()

worker_class = "web.gunicorn_worker.Worker"
workers = settings.web_concurrency
threads = settings.web_threads
# `when_ready` builds the app, once the stores have been checked. preload_app would build it before that.
preload_app = False
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


def when_ready(server: Any) -> None:
    """Builds the app before the first fork, so that all processes share its memory. It connects after the fork."""
    server.app.wsgi()
    share_memory_with_children()


def on_reload(server: Any) -> None:
    """After HUP, builds the app again, with the settings of now. If they cannot be used, the app stays as it is."""
    try:
        importlib.reload(sys.modules[server.app.app_uri.partition(":")[0]])
    except SettingsError as error:
        server.log.error("The settings were not read again: %s", error)
        return
    server.app.callable = None
    when_ready(server)


def pre_exec(_server: Any) -> None:
    """A new gunicorn that replaces this one is forked too."""
    let_stops_through()


def hold_stops() -> None:
    signal.pthread_sigmask(signal.SIG_BLOCK, _STOPS)


def let_stops_through() -> None:
    signal.pthread_sigmask(signal.SIG_UNBLOCK, _STOPS)
