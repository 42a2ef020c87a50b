"""What the description of the reporting app says about the app as a whole. Its routes describe themselves."""

from report_app.query_json_schema import COMPONENTS
from web.openapi import Api

_ABOUT = """\
Reports about your sites, in exact numbers, and the administration of the server.

Send the key as `Authorization: Bearer <key>`. If the server has no REPORT_KEY, reports need no key, except those that
show individual visitors.

Every error is `{"success": false, "error": {"code", "message", "fields"}}`. Under `/api/v2` it is `{"error": message}`.
A request that is not HTTP, or whose first line or headers are too long, gets 400, 414, 431 or 501 in the first form, on
every route.
"""

REPORT_API = Api("Footfall: reports", _ABOUT, COMPONENTS)
