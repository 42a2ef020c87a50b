"""Makes columns of raw events from MongoDB's BSON without a Python object for each event.

It reads the documents that a worker writes, and raises UnusualDocument for many others. The caller then decodes these
documents (analytics/events/columns.py). Both give the same columns.
"""

from collections.abc import Sequence
from typing import Any

import bson
import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from analytics.events.arrival import place_of
from analytics.events.bson_fields import (
    BsonDocuments,
    BsonType,
    ElementNames,
    FieldValues,
    Integers,
    Mask,
    UnusualDocument,
)  # fmt: skip
from analytics.events.columns import FIELDS, LARGEST_TIE, RAW, visitor_of
from analytics.events.event import DESCRIBED, PAGEVIEW_TYPES
from analytics.events.raw_replies import document_at

_NAMES = ElementNames("_id", "site_id", *FIELDS)
_OF_REVENUE = ElementNames("amount", "currency")
_ESCAPES = np.frombuffer(b"$\\", np.uint8)  # the begin of names that analytics/events/stored_props.py may change
_POWERS = 10 ** np.arange(19, dtype=np.int64)


class BsonColumns:
    """Documents as MongoDB sends them, by time, or by site and time if they have a site_id. `padded` ends with PADDING.
    `starts` are the places of the documents. `times` are the times of the events. Raises UnusualDocument.
    """

    def __init__(self, padded: bytes, starts: Sequence[int], options: bson.CodecOptions[dict[str, Any]]) -> None:
        self._padded, self._options = padded, options
        self._starts = np.array(starts, np.int64)
        self._documents = BsonDocuments(padded)
        self._values = self._documents.fields(self._starts, _NAMES)
        timestamps = self._values["timestamp"]
        if (timestamps.types != BsonType.DATE).any():
            raise UnusualDocument
        self.times: Integers = self._documents.longs[timestamps.places]
        self._sites = self._documents.texts(self._values["site_id"]).dictionary_encode()

    def count_by_site(self) -> dict[str, int]:
        """Count the documents of each site, in their order. All of them must have a site_id."""
        return dict(zip(self._sites.dictionary.to_pylist(), np.bincount(self._sites.indices).tolist(), strict=True))

    def batch(self, first: int, end: int) -> pa.RecordBatch:
        """Return the columns of the documents from `first` up to, but not including, `end`. Raises UnusualDocument."""
        values = {name: each.within(first, end) for name, each in self._values.items()}
        documents = self._documents
        visitors = self._visitors(values["user_id"], values["visitor_id"])
        amounts, currencies = self._money(values["revenue"])
        texts = documents.texts_of([values[name] for name in ("path", "hostname", *DESCRIBED)])
        columns = {
            "occurred": self.times[first:end],
            "tie": self._ties(first, end, visitors),
            "visitor": visitors.dictionary.take(visitors.indices),
            "name": self._names(values["event_type"]),
            "interactive": self._interactive(values["interactive"]),
            "engagement_time": self._numbers(values["engagement_time"], 2**31 - 1),
            "scroll_depth": self._numbers(values["scroll_depth"], 255),
            "revenue": amounts,
            "currency": currencies,
            "props": self._props(values["props"]),
            **dict(zip(("page", "hostname", *DESCRIBED), texts, strict=True)),
        }
        arrays = [_as_array(columns[field.name], field.type) for field in RAW]
        return pa.RecordBatch.from_arrays(arrays, schema=RAW)

    def _visitors(self, user_ids: FieldValues, visitor_ids: FieldValues) -> pa.DictionaryArray:
        """The hash of each visitor, as MongoDB's $ifNull would choose the id."""
        is_none = np.isin(user_ids.types, (BsonType.MISSING, BsonType.NULL, BsonType.UNDEFINED))
        chosen = FieldValues(
            np.where(is_none, visitor_ids.types, user_ids.types), np.where(is_none, visitor_ids.places, user_ids.places)
        )
        ids = self._documents.texts(chosen).dictionary_encode()
        hashes = pa.array(map(visitor_of, ids.dictionary.to_pylist()), pa.uint64())
        return pa.DictionaryArray.from_arrays(ids.indices, hashes)

    def _ties(self, first: int, end: int, visitors: pa.DictionaryArray) -> npt.NDArray[np.uint16]:
        """The place of each event among the events of its visitor and millisecond. The documents must include all
        events of a millisecond.
        """
        ties = np.zeros(end - first, np.uint16)
        times = self.times[first:end]
        is_again = times[1:] == times[:-1]
        if not is_again.any():
            return ties
        sites = self._sites.indices[first:end].fill_null(0).to_numpy(zero_copy_only=False)
        who = visitors.indices.fill_null(-1).to_numpy(zero_copy_only=False) + sites * (len(visitors.dictionary) + 1)
        near = np.flatnonzero(np.append(is_again, False) | np.append(False, is_again))
        near = near[np.lexsort((who[near], times[near]))]
        is_tied = (times[near][1:] == times[near][:-1]) & (who[near][1:] == who[near][:-1])
        tied = near[np.append(is_tied, False) | np.append(False, is_tied)].tolist()
        order = sorted(
            tied,
            key=lambda row: (
                times[row],
                who[row],
                place_of(document_at(self._padded, self._starts[first + row], self._options)),
            ),
        )
        tie, before = 0, None
        for row in order:
            group = times[row], who[row]
            tie = min(tie + 1, LARGEST_TIE) if group == before else 0
            ties[row], before = tie, group
        return ties

    def _names(self, values: FieldValues) -> pa.Array:
        names = self._documents.texts(values, or_empty=True)
        is_pageview = pc.is_in(names, pa.array(PAGEVIEW_TYPES))
        return pc.if_else(is_pageview, "pageview", names)

    def _interactive(self, values: FieldValues) -> Mask:
        is_false: Mask = (values.types == BsonType.BOOL) & (self._documents.bytes[values.places] == 0)
        return ~is_false

    def _numbers(self, values: FieldValues, most: int) -> pa.Array:
        numbers = self._documents.ints[values.places]
        is_valid = (values.types == BsonType.INT32) & (numbers >= 0) & (numbers <= most)
        return pa.array(numbers, mask=~is_valid)

    def _money(self, values: FieldValues) -> tuple[pa.Array, pa.Array]:
        """Amounts of at most 15 digits before and three after the point, and their currencies."""
        count = len(values.types)
        rows = np.flatnonzero(values.types == BsonType.DOCUMENT)
        if not len(rows):
            return pa.nulls(count, RAW.field("revenue").type), pa.nulls(count, pa.string())
        found = self._documents.fields(values.places[rows], _OF_REVENUE)
        amounts, currencies = found["amount"], found["currency"]
        is_money = (amounts.types == BsonType.DECIMAL128) & (currencies.types == BsonType.STRING)
        rows = rows[is_money]
        thousandths, fits = self._thousandths(amounts.places[is_money])
        scaled = np.zeros((count, 2), np.int64)
        scaled[rows, 0], scaled[rows, 1] = thousandths, thousandths >> 63  # decimals have 16 bytes
        is_valid = np.zeros(count, bool)
        is_valid[rows] = fits
        bits = pa.py_buffer(np.packbits(is_valid, bitorder="little"))
        decimals = pa.Array.from_buffers(RAW.field("revenue").type, count, [bits, pa.py_buffer(scaled)])
        places = np.zeros(count, np.int64)
        places[rows] = currencies.places[is_money]
        lengths = np.where(is_valid, self._documents.ints[places] - 1, 0)
        return decimals, self._documents.spelled(places + 4, lengths, is_valid)

    def _thousandths(self, places: Integers) -> tuple[Integers, Mask]:
        """The amounts times 1,000, and which of them fit. IEEE 754-2008 has the format: from the top, a sign, 14 bits
        of exponent, and 113 bits of the number.
        """
        number, high = self._documents.words[places], self._documents.words[places + 8]
        exponent = (high >> np.uint64(49) & np.uint64(0x3FFF)).astype(np.int64) - 6176
        is_plain = (high & np.uint64((1 << 49) - 1) == 0) & (number < 2**63) & (exponent >= -21) & (exponent <= 15)
        if not is_plain.all():
            raise UnusualDocument
        number = number.astype(np.int64)
        more, fewer = _POWERS[np.maximum(exponent + 3, 0)], _POWERS[np.maximum(-3 - exponent, 0)]
        fits = (number % fewer == 0) & (number // fewer < _POWERS[18] // more)
        thousandths = np.where(fits, number // fewer, 0) * more
        return np.where(high >> np.uint64(63) == 1, -thousandths, thousandths), fits

    def _props(self, values: FieldValues) -> pa.Array:
        count = len(values.types)
        rows = np.flatnonzero(values.types == BsonType.DOCUMENT)
        found = self._documents.entries(values.places[rows])
        if np.isin(self._documents.bytes[found.names], _ESCAPES).any():
            raise UnusualDocument
        every = np.ones(len(found.rows), bool)
        names = self._documents.spelled(found.names, found.name_lengths, every)
        encoded = names.dictionary_encode()
        keys = found.rows * len(encoded.dictionary) + encoded.indices.to_numpy()
        if len(np.unique(keys)) < len(keys):
            raise UnusualDocument  # of two properties with one name, the last counts
        texts = self._documents.scalars(found.types, found.values)
        is_text = texts.is_valid()
        counts = np.bincount(rows[found.rows[is_text.to_numpy(zero_copy_only=False)]], minlength=count)
        ends = np.append(0, np.cumsum(counts)).astype(np.int32)
        return pa.MapArray.from_arrays(
            pa.array(ends), names.filter(is_text), texts.filter(is_text), type=RAW.field("props").type,
            mask=pa.array(counts == 0),
        )  # fmt: skip


def _as_array(column: object, kind: pa.DataType) -> pa.Array:
    found = column if isinstance(column, pa.Array) else pa.array(column)
    return found if found.type == kind else found.cast(kind)
