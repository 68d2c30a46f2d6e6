import numpy as np
import pytest

from jaxnets.normalise import normalise


def extent(image):
    return [int(np.ptp(np.flatnonzero(image.any(axis=axis)))) + 1 for axis in (1, 0)]


def centre_of_mass(image):
    return [(np.arange(28) * image.sum(axis=axis)).sum() / image.sum() for axis in (1, 0)]


def scribble(rng):
    """A random walk with a pen of three pixels, on paper of 168 x 168."""
    ink = np.zeros((168, 168), np.uint8)
    for row, column in np.cumsum(rng.integers(-3, 4, (60, 2)), axis=0) + rng.integers(60, 100, 2):
        ink[row - 1 : row + 2, column - 1 : column + 2] = 255
    return ink


def test_the_images_of_mnist_stay_as_they_are(mnist):
    images, _ = mnist
    for image in images:
        np.testing.assert_allclose(normalise(image).astype(int), image, atol=1)  # a tenth of them only reach 254


@pytest.mark.parametrize("zoom", [1, 2, 6])
def test_place_and_size_on_the_paper_do_not_matter(mnist, zoom):
    images, _ = mnist
    rng = np.random.default_rng(zoom)
    for image in images:
        paper = np.zeros((200, 200))
        row, column = rng.integers(0, 200 - 28 * zoom, 2)
        paper[row : row + 28 * zoom, column : column + 28 * zoom] = np.kron(image, np.ones((zoom, zoom)))
        np.testing.assert_array_equal(normalise(paper), normalise(image))


@pytest.mark.parametrize("seed", range(20))
def test_drawings_become_what_mnist_has(seed):
    image = normalise(scribble(np.random.default_rng(seed)))
    assert (image.shape, image.dtype, image.max()) == ((28, 28), np.uint8, 255)
    assert max(extent(image)) == 20
    np.testing.assert_allclose(centre_of_mass(image), 14, atol=0.5)


def test_the_sides_keep_their_proportion():
    ink = np.zeros((150, 150))
    ink[20:140, 30:60] = 0.5
    assert extent(normalise(ink)) == [20, 5]
    assert extent(normalise(ink.T)) == [5, 20]


def test_ink_that_is_heavy_at_one_end_is_not_cut_off():
    ink = np.zeros((100, 100))
    ink[:95, 50:55], ink[95:, 5:95] = 0.02, 1
    image = normalise(ink)
    assert extent(image)[0] == 20
    assert image[0].any()


def test_a_dot_is_an_image_and_blank_paper_is_none():
    ink = np.zeros((28, 28))
    with pytest.raises(ValueError, match="no ink"):
        normalise(ink)
    ink[3, 3] = 1
    assert extent(normalise(ink)) == [20, 20]
