"""Draws the world for the map of the dashboard. `make assets` calls it with a TopoJSON file of the npm package
world-atlas.

The result is an SVG with one path for each country, whose id is the country's code of two letters. The land is all
paths. A country that is too small to see is a dot, which is not part of the land. The projection is Equal Earth
(https://doi.org/10.1080/13658816.2018.1504949).
"""

import json
import sys
from collections.abc import Iterator
from itertools import accumulate, chain, groupby, pairwise
from math import asin, cos, radians, sin, sqrt
from pathlib import Path
from typing import Any

import pycountry

Point = tuple[int, int]

WIDTH = 1000
NORTH, SOUTH = 83.7, -56.0  # degrees; Antarctica is left out
EDGE = -169  # degrees; between America and Asia. A few small islands that it cuts are left out.
SMALLEST = 8  # square units of a country that is drawn with its shape
DOT = 4  # radius in units
ANTARCTICA = "AQ"
CODES = {"Kosovo": "XK"}  # of countries without a number
_A = (1.340264, -0.081106, 0.000893, 0.003796)


def projected(longitude: float, latitude: float) -> tuple[float, float]:
    t = asin(sqrt(3) / 2 * sin(radians(latitude)))
    y = t * (_A[0] + _A[1] * t**2 + t**6 * (_A[2] + _A[3] * t**2))
    slope = _A[0] + 3 * _A[1] * t**2 + t**6 * (7 * _A[2] + 9 * _A[3] * t**2)
    return 2 * sqrt(3) * radians(longitude) * cos(t) / (3 * slope), -y


_RIGHT = projected(180, 0)[0]
_SCALE = WIDTH / (2 * _RIGHT)
_TOP = projected(0, NORTH)[1]
HEIGHT = round((projected(0, SOUTH)[1] - _TOP) * _SCALE)


def point(longitude: float, latitude: float) -> Point:
    x, y = projected((longitude - EDGE) % 360 - 180, latitude)
    return round((x + _RIGHT) * _SCALE), round((y - _TOP) * _SCALE)


class Atlas:
    """Countries and their borders. Neighbours share the arcs of their border, so no gap is between them."""

    def __init__(self, topology: dict[str, Any]) -> None:
        (x, y), (left, bottom) = topology["transform"]["scale"], topology["transform"]["translate"]
        self.countries = topology["objects"]["countries"]["geometries"]
        self._arcs: list[list[Point]] = []
        for arc in topology["arcs"]:
            places = accumulate(arc, lambda a, b: [a[0] + b[0], a[1] + b[1]])
            self._arcs.append([each for each, _ in groupby(point(left + x * a, bottom + y * b) for a, b in places)])

    def rings(self, geometry: dict[str, Any]) -> list[list[Point]]:
        polygons = geometry["arcs"] if geometry["type"] == "MultiPolygon" else [geometry["arcs"]]
        rings = [[each for each, _ in groupby(self._ring(ring))] for polygon in polygons for ring in polygon]
        return [ring for ring in rings if max(x for x, _ in ring) - min(x for x, _ in ring) < WIDTH / 2]

    def _ring(self, arcs: list[int]) -> Iterator[Point]:
        """A negative number ~n is the arc n from its end to its start."""
        return chain.from_iterable(self._arcs[n] if n >= 0 else reversed(self._arcs[~n]) for n in arcs)


def area(ring: list[Point]) -> float:
    return abs(sum(a[0] * b[1] - b[0] * a[1] for a, b in zip(ring, ring[1:] + ring[:1], strict=True))) / 2


def path(ring: list[Point]) -> str:
    steps = "".join(f" {b[0] - a[0]} {b[1] - a[1]}" for a, b in pairwise(ring[:-1]))
    return f"M{ring[0][0]} {ring[0][1]}l{steps.strip()}z".replace(" -", "-")


def code_of(country: dict[str, Any]) -> str:
    """The code of two letters, or "" for a part of the world without one."""
    found = pycountry.countries.get(numeric=country.get("id", ""))  # type: ignore[no-untyped-call]
    return str(found.alpha_2) if found else CODES.get(country["properties"]["name"], "")


def drawn(topology: dict[str, Any]) -> str:
    """The SVG. Rings without an area are left out."""
    atlas = Atlas(topology)
    rings: dict[str, list[list[Point]]] = {}
    for country in atlas.countries:
        rings.setdefault(code_of(country), []).extend(atlas.rings(country))
    del rings[ANTARCTICA]
    land, dots = [], []
    for code in sorted(rings):
        largest = max(rings[code], key=area)
        if area(largest) >= SMALLEST:
            name = f'id="{code}" ' if code else ""
            land.append(f'<path {name}d="{"".join(path(ring) for ring in rings[code] if area(ring) >= 1)}"/>')
        else:
            x, y = (sum(values) // len(values) for values in zip(*largest, strict=True))
            dots.append(f'<circle id="{code}" cx="{x}" cy="{y}" r="{DOT}"/>')
    start = f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}">'
    return "\n".join([start, '<g id="land">', *land, "</g>", *dots, "</svg>\n"])


if __name__ == "__main__":
    sys.stdout.write(drawn(json.loads(Path(sys.argv[1]).read_text())))
