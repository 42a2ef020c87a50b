"""What the description of the ingestion app says about the app as a whole. Its routes describe themselves."""

from web.openapi import Api

_ABOUT = """\
Send the events of your sites. A 200 means that the event is on disk. An event with an `event_id` is stored once, even
if it is sent several times.

Footfall reads every body as JSON and ignores its Content-Type. A body may be compressed: `Content-Encoding` gzip, br,
zstd or deflate.

Every error is `{"success": false, "error": {"code", "message", "fields"}}`. 429 and 503 have a Retry-After header: send
the request again after that time. A request gets 400, 408, 414, 431 or 501 in the same form, on every route, if it is
not HTTP, if its first line or headers are too long, or if it does not arrive within 10 seconds and one more second for
each 64 KiB.
"""

INGEST_API = Api("Footfall: events in", _ABOUT)
