"""A response of a hot route, before Flask or ingest_app/hot_routes.py makes an HTTP response of it."""

from flask import Response
from msgspec import Struct

from web.app import Headers
from web.lean_flask import LeanResponse


class Reply(Struct, frozen=True):
    body: bytes
    status: str = "200 OK"
    content_type: str = "application/json"
    headers: Headers = ()

    def as_response(self) -> Response:
        return LeanResponse(self.body, self.status, self.headers, content_type=self.content_type)
