"""Pages as a scanner or a copier leaves them: turned a little, grey, blurred, noisy; words and letters move along."""

import io
from dataclasses import replace
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageFilter

from moca_rag.records import Floats, Pixels

from .canvas import ComposedPage

Matrix: TypeAlias = NDArray[np.float64]

GREY_RATE = 0.75
MOST_DEGREES = 2.0
MOST_SLANT = 0.012  # of a side: how far perspective pulls a corner
EDGE = 1.5  # pixels that stay free between a word and the picture's edge


def scan_page(page: ComposedPage, rng: np.random.Generator) -> ComposedPage:
    """The page as a scan of the same size, its word boxes (around the turned words) and letter centres moved along.

    A page whose words would leave the picture is shrunk until they stay. Same page and generator, same bytes.
    """
    matrix = _draw_matrix(page, rng)
    image = Image.fromarray(page.pixels)
    image = _warp(image.convert("L") if rng.random() < GREY_RATE else image, matrix, rng)
    pixels = _age(np.atleast_3d(np.asarray(image, np.float32)), rng)
    return replace(
        page,
        pixels=_compress(pixels.clip(0, 255).astype(np.uint8), rng),
        word_boxes=_move_boxes(page.word_boxes, matrix),
        letter_centres=_move_points(page.letter_centres, matrix).astype(np.float32),
        kind=f"{page.kind} scan",
    )


def _draw_matrix(page: ComposedPage, rng: np.random.Generator) -> Matrix:
    """A turn, a slight perspective and a shift [3, 3], from places on the page to places on the scan."""
    height, width = page.pixels.shape[:2]
    angle = np.deg2rad(rng.normal(0, MOST_DEGREES / 2)).clip(*np.deg2rad((-MOST_DEGREES, MOST_DEGREES)))
    slant_x, slant_y = rng.uniform(-MOST_SLANT, MOST_SLANT, 2) * (rng.random() < 0.5)
    shift = rng.uniform(-0.012, 0.012, 2) * (width, height)
    centre = np.array([[1, 0, -width / 2], [0, 1, -height / 2], [0, 0, 1]])
    turn = np.array(
        [[np.cos(angle), -np.sin(angle), 0], [np.sin(angle), np.cos(angle), 0], [slant_x / width, slant_y / height, 1]]
    )
    middle = np.array([width, height]) / 2 + shift
    zoom = float(rng.uniform(0.97, 1.02))
    boxes = _move_boxes(page.word_boxes, turn @ centre) * zoom
    zoom *= _room(boxes, middle, width, height)
    back: Matrix = np.array([[zoom, 0, middle[0]], [0, zoom, middle[1]], [0, 0, 1]])
    return np.asarray(back @ turn @ centre)


def _room(boxes: Floats, middle: Matrix, width: int, height: int) -> float:
    """How much smaller, if at all, the page must be for its words, seen from its middle, to stay in the picture."""
    free = np.array([*(middle - EDGE), width - EDGE - middle[0], height - EDGE - middle[1]])
    reach = (boxes * (-1, -1, 1, 1)).max(axis=0, initial=0.0)
    return float(min(1.0, *(free / np.maximum(reach, 1e-6))))


def _move_points(points: NDArray[np.floating], matrix: Matrix) -> Matrix:
    """Points [N, 2] at their places on the scan."""
    moved = np.column_stack([points, np.ones(len(points))]) @ matrix.T
    return np.asarray(moved[:, :2] / moved[:, 2:])


def _move_boxes(boxes: Floats, matrix: Matrix) -> Floats:
    """The upright boxes around boxes that are turned."""
    corners = boxes[:, [0, 1, 2, 1, 2, 3, 0, 3]].reshape(-1, 2)
    moved = _move_points(corners, matrix).reshape(-1, 4, 2)
    return np.concatenate([moved.min(axis=1), moved.max(axis=1)], axis=1).astype(np.float32)


def _warp(image: Image.Image, matrix: Matrix, rng: np.random.Generator) -> Image.Image:
    """The page on the glass, a little out of focus; the lid that shows beside it is white, or of any grey."""
    inverse = np.linalg.inv(matrix)
    lid = 255 if rng.random() < 0.7 else int(rng.integers(20, 240))
    turned = image.transform(
        image.size,
        Image.Transform.PERSPECTIVE,
        tuple((inverse / inverse[2, 2]).reshape(-1)[:8]),
        Image.Resampling.BICUBIC,
        fillcolor=lid if image.mode == "L" else (lid, lid, lid),
    )
    return turned.filter(ImageFilter.GaussianBlur(float(rng.uniform(0.2, 0.75))))


def _age(pixels: Floats, rng: np.random.Generator) -> Floats:
    """Grey paper, faded or fattened ink, uneven light, the sensor's noise and specks of dirt, on [H, W, 1 or 3]."""
    height, width = pixels.shape[:2]
    if rng.random() < 0.25:
        pixels = _copy(pixels, rng)
    black, white = float(rng.uniform(0, 60)), float(rng.uniform(200, 255))
    pixels = black + pixels * ((white - black) / 255)
    across, down = np.linspace(-1, 1, width, dtype=np.float32), np.linspace(-1, 1, height, dtype=np.float32)
    light = 1 + rng.uniform(-0.08, 0.08) * across + rng.uniform(-0.08, 0.08) * down[:, None]
    if rng.random() < 0.3:  # the gutter of a book, or a lid that does not close
        side = across if rng.random() < 0.5 else -across
        light = light - float(rng.uniform(0.1, 0.35)) * np.exp((side - 1) / float(rng.uniform(0.03, 0.12)))
    pixels = pixels * light[..., None].astype(np.float32)
    pixels += float(rng.uniform(1, 8)) * rng.standard_normal(pixels.shape, np.float32)
    specks = int(rng.integers(0, 120))
    rows, columns = rng.integers(0, height, specks), rng.integers(0, width, specks)
    pixels[rows, columns] = rng.uniform(40, 170, (specks, 1))
    return pixels


def _copy(pixels: Floats, rng: np.random.Generator) -> Floats:
    """A copier's hard contrast: what is darker than some grey nears black, the rest white."""
    steepness, threshold = float(rng.uniform(0.02, 0.05)), float(rng.uniform(110, 170))
    return np.asarray(255 / (1 + np.exp(-steepness * (pixels - threshold))), np.float32)


def _compress(pixels: Pixels, rng: np.random.Generator) -> Pixels:
    """Through a JPEG of poor to good quality."""
    buffer = io.BytesIO()
    image = Image.fromarray(pixels[..., 0] if pixels.shape[2] == 1 else pixels)
    image.save(buffer, "JPEG", quality=int(rng.integers(35, 92)))
    return np.array(Image.open(buffer).convert("RGB"))
