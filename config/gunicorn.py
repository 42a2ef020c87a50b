"""gunicorn's settings for both apps. A bad setting stops the start, named."""

import sys

from config import metrics as _metrics  # noqa: F401 (the folder that all processes share is made before the fork)
from config.logs import logging_config
from config.settings import SettingsError, load_settings

try:
    settings = load_settings()
except SettingsError as error:
    sys.exit(f"footfall: {error}")

worker_class = "web.gunicorn_worker.Worker"  # gthread; Flask costs about 1.3 ms of CPU a request with any worker class
workers = settings.web_concurrency
threads = settings.web_threads
preload_app = False  # clients are made after the fork
keepalive = 65  # seconds; above a proxy's usual 60, so that the proxy closes first
timeout = 30  # a process whose loop stands still this long is replaced
graceful_timeout = 30  # what a request has to finish in when its process is told to stop
control_socket_disable = True  # no second way in
logger_class = "web.gunicorn_worker.QuietLogger"
logconfig_dict = logging_config(settings)
