"""The picture of a confusion matrix."""

import numpy as np
import pytest

from stjax.errors import UserError
from stjax.viz import colour, confusion

EMPTY = (190, 190, 190)


def names(k):
    return [f"class {i}" for i in range(k)]


def shade(share):
    return colour(np.array([[share]]), cmap="Blues")[0]


def corner_of(picture, k, cell):
    """Where the matrix begins, found by its right and lower frame."""
    height, width = picture.shape[:2]
    return height - 14 - k * cell, width - 14 - k * cell


def test_a_cell_is_the_share_of_its_row():
    k, cell = 6, 48
    matrix = np.diag([3, 3, 3, 3, 3, 0])
    matrix[0] = [10, 0, 5, 0, 5, 0]
    picture = confusion(matrix, names(k))
    assert picture.dtype == np.uint8 and picture.shape[2] == 3
    top, left = corner_of(picture, k, cell)
    for column, share in enumerate(matrix[0] / 20):
        # near a corner of the cell: no number, no line
        pixel = picture[top + 4, left + column * cell + 4]
        np.testing.assert_array_equal(pixel, shade(share))
    np.testing.assert_array_equal(picture[top + 52, left + 52], shade(1.0))
    np.testing.assert_array_equal(picture[top + 5 * 48 + 4, left + 4], EMPTY)


def test_numbers_stand_in_the_cells_of_a_few_classes_only():
    # Of one class, every clip right: the number 100 is white on dark blue.
    picture = confusion(8 * np.eye(8, dtype=int), names(8))
    top, left = corner_of(picture, 8, 48)
    cell = picture[top + 1 : top + 47, left + 1 : left + 47].reshape(-1, 3)
    assert (cell == 255).all(1).any() and (cell == shade(1.0)).all(1).mean() > 0.7
    k, size = 21, 24
    picture = confusion(8 * np.eye(k, dtype=int), names(k))
    top, left = corner_of(picture, k, size)
    cell = picture[top + 1 : top + 23, left + 1 : left + 23]
    assert (cell == shade(1.0)).all()


@pytest.mark.parametrize(("k", "side"), [(51, 969), (174, 870), (400, 800)])
def test_many_classes_fit_and_are_thinly_named(k, side):
    rng = np.random.default_rng(0)
    picture = confusion(rng.poisson(1, (k, k)), names(k))
    height, width = picture.shape[:2]
    assert side < width < side + 120 and side < height < side + 160
    # Rows of text left of the matrix: 15 pixels or more for each.
    top, left = corner_of(picture, k, side // k)
    dark = (picture[top : top + side, : left - 4] < 100).all(-1).any(1)
    starts = np.flatnonzero(np.diff(dark.astype(int)) == 1)
    assert 0.9 * side / 20 < len(starts) <= 2 * side / 15  # dots of i count apart


def test_long_names_are_cut():
    short = confusion(np.eye(2), ["a" * 24, "b"])
    long = confusion(np.eye(2), ["a" * 100, "b"])
    assert long.shape[1] < short.shape[1] + 10


def test_a_matrix_of_another_size_and_one_without_clips():
    with pytest.raises(UserError, match=r"expected \[K, K\] for 3 classes"):
        confusion(np.eye(2), names(3))
    picture = confusion(np.zeros((7, 7)), names(7))
    top, left = corner_of(picture, 7, 48)
    assert (picture[top + 4 :: 48, left + 4 :: 48][:7, :7] == EMPTY).all()
