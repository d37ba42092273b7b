"""How far apart colours look, also to the colour-blind, and how far they stand out.

Dichromats see by two kinds of cones alone: their views are those of Machado, Oliveira and Fernandes
(2009) at full severity. Distances are those of CIELAB (1976), where 2.3 is just seen.
"""

import math
from collections.abc import Mapping, Sequence
from typing import Final

Colour = tuple[float, float, float]
PLAINLY: Final = ((1.0, 0.0, 0.0), (0.0, 1.0, 0.0), (0.0, 0.0, 1.0))
DICHROMACIES: Final[Mapping[str, Sequence[Colour]]] = {
    "protanopia": (
        (0.152286, 1.052583, -0.204868),
        (0.114503, 0.786281, 0.099216),
        (-0.003882, -0.048116, 1.051998),
    ),
    "deuteranopia": (
        (0.367322, 0.860646, -0.227968),
        (0.280085, 0.672501, 0.047413),
        (-0.011820, 0.042940, 0.968881),
    ),
    "tritanopia": (
        (1.255528, -0.076749, -0.178779),
        (-0.078411, 0.930809, 0.147602),
        (0.004733, 0.691367, 0.303900),
    ),
}
XYZ: Final = ((0.4124564, 0.3575761, 0.1804375), (0.2126729, 0.7151522, 0.0721750), (0.0193339, 0.1191920, 0.9503041))
WHITE: Final = (0.95047, 1.0, 1.08883)


def distance(one: str, other: str, view: Sequence[Colour]) -> float:
    """Return how far apart two colours, as in #0072b2, look in a view."""
    return math.dist(_lab(one, view), _lab(other, view))


def contrast(one: str, other: str) -> float:
    """Return the contrast of two colours as web pages reckon it, from 1 to 21."""
    dark, light = sorted(_times(XYZ, _linear(colour))[1] for colour in (one, other))
    return (light + 0.05) / (dark + 0.05)


def _linear(colour: str) -> Colour:
    shares = [int(colour[at : at + 2], 16) / 255 for at in (1, 3, 5)]
    red, green, blue = (share / 12.92 if share <= 0.04045 else ((share + 0.055) / 1.055) ** 2.4 for share in shares)
    return red, green, blue


def _times(rows: Sequence[Colour], of: Colour) -> Colour:
    first, second, third = (sum(by * value for by, value in zip(row, of, strict=True)) for row in rows)
    return first, second, third


def _lab(colour: str, view: Sequence[Colour]) -> Colour:
    seen = [min(1.0, max(0.0, value)) for value in _times(view, _linear(colour))]
    x, y, z = (
        _root(value / white) for value, white in zip(_times(XYZ, (seen[0], seen[1], seen[2])), WHITE, strict=True)
    )
    return 116 * y - 16, 500 * (x - y), 200 * (y - z)


def _root(share: float) -> float:
    return float(share ** (1 / 3)) if share > (6 / 29) ** 3 else share * (29 / 6) ** 2 / 3 + 4 / 29
