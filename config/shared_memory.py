"""Lets a process share the memory of its objects with the processes that it forks."""

import atexit
import gc


def share_memory_with_children() -> None:
    """Exempts all existing objects from garbage collection. Call it before the first fork, when all code is imported.

    The collector writes to each object that it looks at, and a page that is written to is not shared any more.
    """
    gc.unfreeze()  # of an app that was replaced
    gc.collect()
    gc.freeze()


atexit.register(gc.unfreeze)  # DuckDB reports objects that still exist when the interpreter ends
