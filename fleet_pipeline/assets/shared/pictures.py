"""Pictures for Dagster's UI, as Markdown. Pure.

The UI draws an image of a text shorter than a thousand characters by itself; a longer one hides behind a link. So each
is one SVG path, and its scale stands below it as a sentence.
"""

import math
from base64 import b64encode
from collections.abc import Sequence
from itertools import pairwise

INLINE = 1000
"""Characters from which on the UI shows a link instead. Source: the bundle of dagster-webserver 1.13.27."""

MOST_BARS = 60
"""Bars that fit into an inline picture: the minutes of an hour."""

MOST_DOTS = 50
"""Dots that fit into an inline picture."""

MOST_NORTH, MOST_EAST = 90, 180
"""Degrees of the poles, and of the meridian that is east and west at once."""

_COLOUR = "#4f43dd"
_STEP, _HEIGHT = 4, 48
_BOX = (150, 75)
_DEGREE_KM = 111.2
"""Kilometres of a degree of latitude."""


def bars(values: Sequence[int], scale: str) -> str:
    """Return a bar for each of at most sixty numbers, the largest as high as the picture, and below them what `scale`
    says of both axes.

    They touch: their outline is half as long as they are.
    """
    most = max(values, default=0) or 1
    heights = [math.ceil(value * _HEIGHT / most) for value in values[:MOST_BARS]]
    path = (
        f"M0 {_HEIGHT}"
        + "".join(f"v{before - height}h{_STEP}" for before, height in pairwise([0, *heights]))
        + f"V{_HEIGHT}z"
    )
    return _image(scale, (_STEP * len(heights), _HEIGHT), f'<path d="{path}" fill="{_COLOUR}"/>')


def dots(points: Sequence[tuple[float, float]], title: str) -> str:
    """Return a dot for each of some places (latitude, longitude), north up, at most fifty of them and spread over all;
    and below them the title, and how wide the picture is.

    What is no place on Earth has none.
    """
    places = [point for point in points if on_earth(*point)]
    shown = places[:: max(1, math.ceil(len(places) / MOST_DOTS))]
    scale, placed = _placed(shown)
    path = "".join(f"M{x} {y}h0" for x, y in placed)
    wide = _BOX[0] / scale * _DEGREE_KM
    width = f"; {f'{wide:,.1f} km' if wide >= 1 else f'{wide * 1000:.0f} m'} wide"
    return _image(
        title + (width if shown else ""),
        _BOX,
        f'<path d="{path}" stroke="{_COLOUR}" stroke-width="4" stroke-linecap="round"/>',
    )


def on_earth(latitude: float | None, longitude: float | None) -> bool:
    """Whether two numbers, of which a vehicle may have sent any, are degrees of a place: neither missing nor infinite,
    NaN or beyond a pole.
    """
    return (
        latitude is not None and longitude is not None and abs(latitude) <= MOST_NORTH and abs(longitude) <= MOST_EAST
    )


def _placed(points: Sequence[tuple[float, float]]) -> tuple[float, list[tuple[int, int]]]:
    """Return how many units of the box a degree of latitude has, and where places lie in it: a degree of longitude is
    as much shorter as the middle is north or south.
    """
    north = max((latitude for latitude, _ in points), default=0.0)
    south = min((latitude for latitude, _ in points), default=0.0)
    west = min((longitude for _, longitude in points), default=0.0)
    east = max((longitude for _, longitude in points), default=0.0)
    narrower = math.cos(math.radians((north + south) / 2))
    scale = min((_BOX[0] - 4) / (((east - west) * narrower) or 1e-9), (_BOX[1] - 4) / ((north - south) or 1e-9), 1e6)
    return scale, [
        (2 + round((longitude - west) * narrower * scale), 2 + round((north - latitude) * scale))
        for latitude, longitude in points
    ]


def _image(said: str, size: tuple[int, int], drawing: str) -> str:
    width, height = size
    svg = (
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{2 * width}" height="{2 * height}" viewBox="0 0 {width} '
        f'{height}">{drawing}</svg>'
    )
    return f"![](data:image/svg+xml;base64,{b64encode(svg.encode()).decode()})\n\n{said}"
