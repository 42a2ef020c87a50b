"""Answers as JSON or CSV, as the request demands. Raises BadRequest for invalid parameters.

Values that a spreadsheet would read as a formula get a leading apostrophe, because visitors can send such values. So do
values that begin with an apostrophe, so that an import can remove it again.
"""

import csv
from collections.abc import Iterable, Iterator, Sequence
from io import StringIO
from itertools import chain
from typing import Any

from flask import Response, request

from analytics.json_schema import one_of
from report_app.metric_format import Cell
from web.errors import BadRequest
from web.openapi import parameter

FORMULAS = ("=", "+", "-", "@", "\t", "\r")  # the first characters of a formula
CSV = "text/csv"
_BOM = "\ufeff"  # without it, Excel reads a table as one in an old encoding

BOM_PARAMETER = parameter("bom", one_of("0", "1"), "If 1, CSV begins with a byte order mark, which Excel needs.")
FORMAT_PARAMETERS = [parameter("format", one_of("json", "csv"), "Overrides the Accept header."), BOM_PARAMETER]


def wants_csv() -> bool:
    """Whether the answer is CSV. `?format=` overrides the header Accept. Without either, the answer is JSON.

    Raises BadRequest for an invalid `format`, and for an invalid `bom` also if the answer is JSON.
    """
    wants_bom()  # raises if `bom` is invalid
    wanted = request.args.get("format")
    if wanted is None:
        return request.accept_mimetypes.best_match(["application/json", CSV]) == CSV
    if wanted not in ("csv", "json"):
        message = "format must be json or csv."
        raise BadRequest("invalid_query", f"The request is not valid: {message}", {"format": [message]})
    return wanted == "csv"


def as_csv(names: Sequence[str], rows: Iterable[Iterable[Cell]]) -> Response:
    """A table as a CSV response.

    The first line has the names. With `?bom=1`, the text begins with a byte order mark.
    """
    return Response("".join(csv_lines(names, rows, bom=wants_bom())), mimetype=CSV)


def csv_lines(names: Sequence[str], rows: Iterable[Iterable[Any]], *, bom: bool) -> Iterator[str]:
    """The lines of a table as CSV. The first line has the names."""
    table = StringIO()
    writer = csv.writer(table)
    yield _BOM if bom else ""
    for row in chain([names], rows):
        writer.writerow(map(_harmless, row))
        yield table.getvalue()
        table.seek(0)
        table.truncate()


def wants_bom() -> bool:
    wanted = request.args.get("bom", "0")
    if wanted not in ("0", "1"):
        message = "bom must be 0 or 1."
        raise BadRequest("invalid_query", f"The request is not valid: {message}", {"bom": [message]})
    return wanted == "1"


def _harmless(cell: Any) -> Any:
    return f"'{cell}" if isinstance(cell, str) and cell.startswith((*FORMULAS, "'")) else cell
