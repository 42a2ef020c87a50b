"""Makes a hanging process show where it hangs.

`kill -RTMIN <pid>` makes the process write the Python stack of each of its threads to stderr. The process continues.
"""

import faulthandler
import signal

# Not SIGUSR1, SIGUSR2, SIGWINCH or SIGQUIT: gunicorn, Celery or its pool use these.
STACKS_SIGNAL = signal.SIGRTMIN


def write_stacks_on_signal() -> None:
    """Installs the handler for this process and its children. It works even if the interpreter hangs."""
    faulthandler.register(STACKS_SIGNAL, file=2, all_threads=True)
