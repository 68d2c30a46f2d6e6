"""Handwritten strokes of each digit: points in percent of the drawing area, from the left and from the top."""

import numpy as np
from scipy.interpolate import CubicSpline

STROKES = {
    0: ["52,18 38,22 29,38 27,56 33,74 46,83 60,79 70,63 71,42 64,25 50,17"],
    1: ["42,30 48,24 53,18 52,40 51,62 50,84"],
    2: ["30,33 37,21 50,17 62,23 66,36 58,52 43,66 29,80 45,79 60,79 74,81"],
    3: ["31,24 43,17 57,19 64,29 58,41 46,47 60,51 69,62 65,76 51,84 35,81 28,74"],
    4: ["45,17 38,34 30,54 45,54 60,53 73,52", "60,30 58,50 56,68 55,86"],
    5: ["66,19 52,19 39,20 37,33 35,46 48,43 61,48 68,60 63,75 49,83 35,81"],
    6: ["60,17 47,27 37,43 32,60 37,76 50,83 63,77 66,64 56,55 43,58 34,68"],
    7: ["28,22 42,21 56,20 71,19 64,34 57,50 50,67 45,85"],
    8: ["62,24 50,17 38,23 39,36 51,46 64,57 66,73 53,83 38,78 35,64 45,51 58,40 63,29 60,22"],
    "between 4 and 9": ["47,20 40,29 35,41 40,49 50,50 59,47 66,42", "64,19 65,34 64,52 62,68 60,84"],
    9: ["65,30 55,20 42,21 35,33 39,46 52,49 63,41 66,30 64,48 60,66 54,85"],
}


def strokes(digit, *, steps=6):
    """Yield points (P, 2) in 0..1 along a smooth curve for each stroke, with `steps` between two of STROKES."""
    for text in STROKES[digit]:
        corners = np.array([pair.split(",") for pair in text.split()], float) / 100
        yield CubicSpline(np.arange(len(corners)), corners)(
            np.linspace(0, len(corners) - 1, steps * (len(corners) - 1) + 1)
        )
