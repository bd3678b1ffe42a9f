"""Scans: what a scanner does to a page, and that words and letters are still where they are said to be."""

import numpy as np
import pytest
from moca_rag.train.canvas import Canvas, ComposedPage
from moca_rag.train.faces import Face, Faces
from moca_rag.train.scanning import MOST_DEGREES, scan_page

from tests.fonts import write_fonts


@pytest.fixture(scope="module")
def face(tmp_path_factory: pytest.TempPathFactory) -> Face:
    return Faces.open(write_fonts(tmp_path_factory.mktemp("fonts"))).text[0].regular


def sparse_page(face: Face, margin: int = 40, size: float = 20.0) -> ComposedPage:
    """Round letters far apart, black on white: each one's ink can be found again."""
    canvas = Canvas(420, 560, (255, 255, 255))
    for top in range(margin + 20, 560 - margin, 60):
        lefts = list(range(margin, 400 - margin, 50))
        canvas.write([face.shape("o") for _ in lefts], lefts, top, size, (0, 0, 0))
    return canvas.finish("flow")


@pytest.mark.parametrize("seed", range(20))
def test_letters_are_found_where_the_scan_says_they_are(face: Face, seed: int) -> None:
    page = sparse_page(face)
    scan = scan_page(page, np.random.default_rng(seed))
    misses = []
    for x, y in scan.letter_centres:
        left, top = round(float(x)) - 13, round(float(y)) - 13
        window = scan.pixels[top : top + 26, left : left + 26].mean(axis=2)
        ink = (np.median(window) - 25 - window).clip(0)
        rows, columns = np.mgrid[0:26, 0:26] + 0.5
        misses.append(np.hypot(left + (ink * columns).sum() / ink.sum() - x, top + (ink * rows).sum() / ink.sum() - y))
    assert np.median(misses) < 0.35 and np.mean(np.array(misses) < 1.0) > 0.9


def test_a_scan_is_turned_a_little_and_never_more_than_two_degrees(face: Face) -> None:
    page = sparse_page(face)
    line = np.flatnonzero(page.letter_centres[:, 1] == page.letter_centres[0, 1])
    angles = []
    for seed in range(150):
        centres = scan_page(page, np.random.default_rng(seed)).letter_centres
        run = centres[line[-1]] - centres[line[0]]
        angles.append(np.degrees(np.arctan2(run[1], run[0])))
    assert np.abs(angles).max() < MOST_DEGREES + 0.6  # half a degree is perspective
    assert np.std(angles) > 0.5


def test_words_stay_in_the_picture_even_where_the_page_has_no_margins(face: Face) -> None:
    page = sparse_page(face, margin=0)
    for seed in range(60):
        scan = scan_page(page, np.random.default_rng(seed))
        boxes = scan.word_boxes
        assert boxes[:, :2].min() >= 1 and boxes[:, 2].max() <= 419 and boxes[:, 3].max() <= 559
        assert ((boxes[:, :2] <= scan.letter_centres) & (scan.letter_centres <= boxes[:, 2:])).all()


def test_the_same_seed_gives_the_same_scan_and_the_words_are_untouched(face: Face) -> None:
    page = sparse_page(face)
    one, two, other = (scan_page(page, np.random.default_rng(seed)) for seed in (5, 5, 6))
    assert one.pixels.tobytes() == two.pixels.tobytes() != other.pixels.tobytes()
    assert one.words == page.words and one.text == page.text and one.kind == "flow scan"
    assert one.pixels.shape == page.pixels.shape and one.pixels.dtype == np.uint8 and one.pixels.flags.writeable
    assert one.letter_centres.dtype == one.word_boxes.dtype == np.float32


def test_scans_are_noisy_grey_and_differently_lit(face: Face) -> None:
    page = sparse_page(face)
    scans = [scan_page(page, np.random.default_rng(seed)).pixels.astype(float) for seed in range(40)]
    papers = [np.median(scan) for scan in scans]
    noise = [np.abs(np.diff(scan[5:25, 5:400].mean(axis=2), axis=1)).mean() for scan in scans]
    assert np.std(papers) > 5 and 190 < np.mean(papers) < 255
    assert np.mean(noise) > 1
    assert all(np.abs(scan - page.pixels).mean() > 2 for scan in scans)


def test_a_blank_page_can_be_scanned() -> None:
    blank = Canvas(112, 84, (255, 255, 255)).finish("flow")
    scan = scan_page(blank, np.random.default_rng(0))
    assert scan.words == () and scan.word_boxes.shape == (0, 4) and scan.letter_centres.shape == (0, 2)
