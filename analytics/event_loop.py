"""Keeps work that waits off the event loop.

The thread of an event loop calls `forbid_waiting` once. From then on, `may_wait` raises WouldWait there, and does
nothing in other threads. Whatever waits for a store (config/clients.py) or takes long calls `may_wait` first. The
server (web/gunicorn_worker.py) then handles the request again in a thread. So code between must be repeatable, or undo
in `except WouldWait` what it did.
"""

import threading

LARGEST_ON_LOOP = 16_384  # bytes of a body that is read on the loop

_this_thread = threading.local()


class WouldWait(BaseException):
    """This work waits for a store or takes long, and runs on the event loop.

    No Exception, so that no handler turns it into an answer.
    """


def forbid_waiting() -> None:
    _this_thread.is_loop = True


def may_wait() -> None:
    """Raises WouldWait on the thread of an event loop."""
    if getattr(_this_thread, "is_loop", False):
        raise WouldWait
