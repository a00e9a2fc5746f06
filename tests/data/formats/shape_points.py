"""Coordinates for tests of shapes."""

from hypothesis import strategies as st


def quarters(low, high):
    """Quarters of pixels: what is computed with them in float64 is exact."""
    return st.integers(4 * low, 4 * high).map(lambda n: n / 4)


def points(coordinates_x, coordinates_y, most=7):
    pair = st.tuples(coordinates_x, coordinates_y)
    return st.lists(pair, min_size=3, max_size=most)
