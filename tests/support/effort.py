"""The processor time of work, to compare with that of other work in the same process."""

from collections.abc import Callable
from time import thread_time


def effort(work: Callable[[], object]) -> float:
    """Seconds of processor time of this thread: the least of three runs.

    A busy machine makes all work slower. A test of costs compares the efforts of two kinds of work, and names no
    number of seconds.
    """

    def once() -> float:
        began = thread_time()
        work()
        return thread_time() - began

    return min(once() for _ in range(3))
