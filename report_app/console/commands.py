"""Asks `python -m footfall doctor` and `workers`, whose answers the console shows.

Only Celery can ask workers, and the reporting app does not load Celery: a command takes its memory only while it runs.
So the console and the command line always agree. Callers must handle ServiceUnavailable.
"""

import json
import os
import subprocess
import sys
import time
from threading import Lock
from typing import Any

import structlog
from werkzeug.exceptions import ServiceUnavailable

from analytics.languages import gettext
from analytics.timed_cache import TimedCache
from config.settings import Settings

log = structlog.get_logger()

_KEPT = 20.0  # seconds that an answer is shown before the command runs again
_LIMIT = 20.0  # seconds; the slowest command takes about 10


class Commands:
    """Runs commands with these settings, one at a time. A request waits for its turn for `longest_wait` seconds."""

    def __init__(self, settings: Settings, longest_wait: float = 5.0) -> None:
        self._longest_wait = longest_wait
        self._environment = os.environ | settings.as_environment()
        self._answers: TimedCache[str, Any] = TimedCache(10, _KEPT, time.monotonic)
        self._turn = Lock()

    def answer(self, name: str) -> Any:
        """Return the JSON that the command prints, or printed within the last seconds. Raises
        ServiceUnavailable.
        """
        answer = self._answers.get(name, lambda: self._in_turn(name))
        if answer is None:
            raise ServiceUnavailable(
                gettext("`python -m footfall %(command)s` gave no answer. Run it on the server.", command=name)
            )
        return answer

    def _in_turn(self, name: str) -> Any:
        if not self._turn.acquire(timeout=self._longest_wait):
            raise ServiceUnavailable(gettext("Another command is running. Reload this page."))
        try:
            return self._answers.get(name, lambda: self._run(name))
        finally:
            self._turn.release()

    def _run(self, name: str) -> Any:
        words = [sys.executable, "-m", "footfall", name, "--json"]
        try:
            done = subprocess.run(words, env=self._environment, capture_output=True, timeout=_LIMIT, check=False)
            return json.loads(done.stdout)
        except (OSError, ValueError, subprocess.TimeoutExpired) as error:
            log.warning("command_failed", command=name, error=type(error).__name__)
            return None  # it is kept, so that open pages do not run a command that fails again and again
