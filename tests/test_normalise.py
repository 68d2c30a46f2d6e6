import numpy as np
import pytest

from jaxnets.normalise import normalise


def extent(image):
    return [int(np.ptp(np.flatnonzero(image.any(axis=axis)))) + 1 for axis in (1, 0)]


def centre_of_mass(image):
    return [(np.arange(28) * image.sum(axis=axis)).sum() / image.sum() for axis in (1, 0)]


def scribble(rng):
    """Return the path of a random walk, three pixels wide, on paper of 168 x 168."""
    ink = np.zeros((168, 168), np.uint8)
    for row, column in np.cumsum(rng.integers(-3, 4, (60, 2)), axis=0) + rng.integers(60, 100, 2):
        ink[row - 1 : row + 2, column - 1 : column + 2] = 255
    return ink


@pytest.fixture
def images():
    """Normalised random drawings, (30, 28, 28) uint8."""
    return np.stack([normalise(scribble(np.random.default_rng(seed))) for seed in range(30)])


def test_normalised_images_do_not_change(images):
    for image in images:
        np.testing.assert_array_equal(normalise(image), image)


@pytest.mark.parametrize("zoom", [1, 2, 6])
def test_position_and_size_on_the_paper_do_not_matter(images, zoom):
    rng = np.random.default_rng(zoom)
    for image in images:
        paper = np.zeros((200, 200))
        row, column = rng.integers(0, 200 - 28 * zoom, 2)
        paper[row : row + 28 * zoom, column : column + 28 * zoom] = np.kron(image, np.ones((zoom, zoom)))
        np.testing.assert_array_equal(normalise(paper), normalise(image))


@pytest.mark.parametrize("seed", range(20))
def test_drawings_become_images_as_in_mnist(seed):
    image = normalise(scribble(np.random.default_rng(seed)))
    assert (image.shape, image.dtype, image.max()) == ((28, 28), np.uint8, 255)
    assert max(extent(image)) == 20
    np.testing.assert_allclose(centre_of_mass(image), 14, atol=0.5)


def test_the_aspect_ratio_is_kept():
    ink = np.zeros((150, 150))
    ink[20:140, 30:60] = 0.5
    assert extent(normalise(ink)) == [20, 5]
    assert extent(normalise(ink.T)) == [5, 20]


def test_no_ink_is_cut_off_when_it_is_heavy_at_one_end():
    ink = np.zeros((100, 100))
    ink[:95, 50:55], ink[95:, 5:95] = 0.02, 1
    image = normalise(ink)
    assert extent(image)[0] == 20
    assert image[0].any()


def test_a_dot_is_scaled_and_blank_paper_is_an_error():
    ink = np.zeros((28, 28))
    with pytest.raises(ValueError, match="no ink"):
        normalise(ink)
    ink[3, 3] = 1
    assert extent(normalise(ink)) == [20, 20]
