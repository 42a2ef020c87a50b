"""A response that waits for its commit: it is sent when the data is on disk. If the commit fails, it is a 503.

Our server (web/gunicorn_worker.py) keeps the finished response without a thread until then. Under another WSGI server
the request's thread waits.
"""

from collections.abc import Callable
from concurrent.futures import Future
from typing import Any

from flask import Flask, request

# Keys of a request's environ: the commits that the server waits for, and an error that Flask raises again.
COMMITS, ERROR_TO_RAISE = "footfall.commits", "footfall.failed"

# What answers some requests before the app is asked. It gets the environ and the body, and returns the head of the
# response, without its date, and the body. None: the app answers, with the error of ERROR_TO_RAISE if there is one.
InFront = Callable[[dict[str, Any], bytes | bytearray], tuple[bytes, bytes] | None]


def hold_response(held: list[Future[None]] | None, commit: Future[None]) -> None:
    """The response waits for `commit`, with the others of `held`. None: the server cannot wait, so this function does.

    It then raises the commit's error. `held`: the request's environ has it under COMMITS.
    """
    if held is None:
        commit.result()
    else:
        held.append(commit)


def answer_failed_commits(app: Flask) -> None:
    """The server handles a request again if its commit failed. Raising the error then gives the usual error response,
    with the headers and the fields of that route.
    """

    @app.before_request
    def raise_error_of_commit() -> None:
        if error := request.environ.get(ERROR_TO_RAISE):
            raise error
