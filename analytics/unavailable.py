"""Unavailable: the exception for a store that is unreachable, slow, full or changing its primary. The event is not the
cause.
"""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

SEGMENTS_STORE = "segments"  # the `store` of segments that are not built yet, or that this version cannot read


class Unavailable(Exception):
    """`store` did not do what it was asked. It may have done it, or may still do it. Asking again is safe. `cause`
    says if something else must be done first.
    """

    def __init__(self, store: str, cause: Exception) -> None:
        said = str(cause).partition(", Topology Description: ")[0]
        super().__init__(f"{store} is unavailable: {type(cause).__name__}: {said}"[:300])
        self.store = store
        self.cause = cause

    def __reduce__(self) -> tuple[type["Unavailable"], tuple[str, Exception]]:
        # Celery pickles the exception between its processes
        return Unavailable, (self.store, Exception(str(self.cause)))


@contextmanager
def raising_unavailable(store: str, errors: type[Exception]) -> Iterator[None]:
    """Turn the exceptions `errors` of the block into Unavailable."""
    try:
        yield
    except errors as error:
        raise Unavailable(store, error) from error


class Breaker:
    """After a failure, every call fails at once for `pause` seconds, so that requests do not queue for a store that
    accepts connections and does not answer. `opened` is called with the failure, once for all threads that see it
    together. `clock` returns seconds and must be monotonic.
    """

    def __init__(
        self,
        store: str,
        errors: type[Exception],
        pause: float = 0.5,
        opened: Callable[[Exception], None] = lambda _: None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._store = store
        self._errors = errors
        self._pause = pause
        self._opened = opened
        self._clock = clock
        self._away_until = 0.0

    def check(self) -> None:
        """Raises Unavailable during a pause."""
        if self._away_until and self._clock() < self._away_until:  # most never fail, and need no clock
            raise Unavailable(self._store, ConnectionError("no answer a moment ago"))

    def closed(self) -> "Breaker":
        """Run a block that queries the store. Raises Unavailable, whether the block ran or not."""
        return self

    def __enter__(self) -> None:
        self.check()

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: object) -> None:
        if isinstance(error, self._errors):
            is_first = self._clock() >= self._away_until
            self._away_until = self._clock() + self._pause
            if is_first:
                self._opened(error)
            raise Unavailable(self._store, error) from error
