"""The word for "our trouble, not the event's": a store that is away, stalled, full or changing its primary."""

import time
from collections.abc import Iterator
from contextlib import contextmanager


class Unavailable(Exception):
    """`store` did not do what was asked; it may have, or may yet. Asking again is safe and the only remedy."""

    def __init__(self, store: str, cause: Exception) -> None:
        said = str(cause).partition(", Topology Description: ")[0]
        super().__init__(f"{store} is unavailable: {type(cause).__name__}: {said}"[:300])
        self.store = store
        self.cause = cause

    def __reduce__(self) -> tuple[type["Unavailable"], tuple[str, Exception]]:
        return Unavailable, (self.store, Exception(str(self.cause)))  # Celery pickles it between its processes


@contextmanager
def raising_unavailable(store: str, errors: type[Exception]) -> Iterator[None]:
    """Whatever of `errors` the block raises is Unavailable."""
    try:
        yield
    except errors as error:
        raise Unavailable(store, error) from error


class Breaker:
    """After a failure everything fails at once for `pause` seconds, so that requests do not queue up behind a store
    that accepts and does not answer.
    """

    def __init__(self, store: str, errors: type[Exception], pause: float = 0.5) -> None:
        self._store = store
        self._errors = errors
        self._pause = pause
        self._away_until = 0.0

    @contextmanager
    def closed(self) -> Iterator[None]:
        """For the block that asks the store. Raises Unavailable, with or without having run it."""
        if time.monotonic() < self._away_until:
            raise Unavailable(self._store, ConnectionError("no answer a moment ago"))
        try:
            yield
        except self._errors as error:
            self._away_until = time.monotonic() + self._pause
            raise Unavailable(self._store, error) from error
