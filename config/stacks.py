"""A process that hangs can be asked where: `kill -RTMIN <pid>` makes it write the Python stack of each of its threads
to stderr. It goes on afterwards.
"""

import faulthandler
import signal

# None of SIGUSR1, SIGUSR2, SIGWINCH and SIGQUIT: they mean something to gunicorn, to Celery or to its pool.
STACKS_SIGNAL = signal.SIGRTMIN


def write_stacks_on_signal() -> None:
    """Holds for the children of this process too. It works while the interpreter itself hangs."""
    faulthandler.register(STACKS_SIGNAL, file=2, all_threads=True)
