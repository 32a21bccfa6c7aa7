"""Pictures for Dagster's UI, as Markdown. Pure.

The UI draws an image of a text shorter than a thousand characters by itself; a longer one hides behind a link. So each
is one SVG path.
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


def bars(values: Sequence[int], title: str) -> str:
    """Return a bar for each of at most sixty numbers, the largest as high as the picture.

    They touch: their outline is half as long as they are.
    """
    most = max(values, default=0) or 1
    heights = [math.ceil(value * _HEIGHT / most) for value in values[:MOST_BARS]]
    path = (
        f"M0 {_HEIGHT}"
        + "".join(f"v{before - height}h{_STEP}" for before, height in pairwise([0, *heights]))
        + f"V{_HEIGHT}z"
    )
    return _image(title, (_STEP * len(heights), _HEIGHT), f'<path d="{path}" fill="{_COLOUR}"/>')


def dots(points: Sequence[tuple[float, float]], title: str) -> str:
    """Return a dot for each of some places (latitude, longitude), north up, at most fifty of them and spread over all.

    What is no place on Earth has none.
    """
    places = [point for point in points if on_earth(*point)]
    shown = places[:: max(1, math.ceil(len(places) / MOST_DOTS))]
    path = "".join(f"M{x} {y}h0" for x, y in _placed(shown))
    return _image(title, _BOX, f'<path d="{path}" stroke="{_COLOUR}" stroke-width="4" stroke-linecap="round"/>')


def on_earth(latitude: float | None, longitude: float | None) -> bool:
    """Whether two numbers, of which a vehicle may have sent any, are degrees of a place: neither missing nor infinite,
    NaN or beyond a pole.
    """
    return (
        latitude is not None and longitude is not None and abs(latitude) <= MOST_NORTH and abs(longitude) <= MOST_EAST
    )


def _placed(points: Sequence[tuple[float, float]]) -> list[tuple[int, int]]:
    """Return where places lie in the box: a degree of longitude is as much shorter as the middle is north or south."""
    north = max((latitude for latitude, _ in points), default=0.0)
    south = min((latitude for latitude, _ in points), default=0.0)
    west = min((longitude for _, longitude in points), default=0.0)
    east = max((longitude for _, longitude in points), default=0.0)
    narrower = math.cos(math.radians((north + south) / 2))
    scale = min((_BOX[0] - 4) / (((east - west) * narrower) or 1e-9), (_BOX[1] - 4) / ((north - south) or 1e-9), 1e6)
    return [
        (2 + round((longitude - west) * narrower * scale), 2 + round((north - latitude) * scale))
        for latitude, longitude in points
    ]


def _image(title: str, size: tuple[int, int], drawing: str) -> str:
    width, height = size
    svg = (
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{2 * width}" height="{2 * height}" viewBox="0 0 {width} '
        f'{height}">{drawing}</svg>'
    )
    return f"![{title}](data:image/svg+xml;base64,{b64encode(svg.encode()).decode()})"
