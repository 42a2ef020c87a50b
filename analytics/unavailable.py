"""The word for "our trouble, not the event's": a store that is away, stalled, full or changing its primary."""

from collections.abc import Iterator
from contextlib import contextmanager


class Unavailable(Exception):
    """`store` did not do what was asked; it may have, or may yet. Asking again is safe and the only remedy."""

    def __init__(self, store: str, cause: Exception) -> None:
        super().__init__(f"{store} is unavailable: {type(cause).__name__}: {cause}"[:300])
        self.store = store
        self.cause = cause

    def __reduce__(self) -> tuple[type["Unavailable"], tuple[str, Exception]]:
        return Unavailable, (self.store, Exception(str(self.cause)))  # Celery pickles it between its processes


@contextmanager
def trouble_with(store: str, errors: type[Exception]) -> Iterator[None]:
    """Whatever of `errors` the block raises is Unavailable."""
    try:
        yield
    except errors as error:
        raise Unavailable(store, error) from error
