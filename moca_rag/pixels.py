"""At which size a page is drawn, and how its pixels become the patch rows that a Qwen2.5-VL vision tower reads."""

import math
from dataclasses import dataclass

import numpy as np
from PIL import Image

from .errors import ConfigError
from .records import Floats, Ids, PixelBudget, Pixels

PATCH_SIDE = 14
MERGE_SIDE = 2
PATCHES_PER_TOKEN = MERGE_SIDE * MERGE_SIDE
EVEN = 8  # of 255: as far apart as JPEG leaves the pixels of empty paper
TEMPORAL_COPIES = 2
MAX_ASPECT_RATIO = 200
DOTS_PER_INCH = 200
POINTS_PER_INCH = 72
MAX_DRAWN_ASPECT = 100  # a page longer than this is squeezed: its pixels would be single lines

# The mean and deviation of CLIP's training images, as in Qwen2.5-VL's own image processor.
PIXEL_MEAN = (0.48145466, 0.4578275, 0.40821073)
PIXEL_STD = (0.26862954, 0.26130258, 0.27577711)


@dataclass(frozen=True, slots=True)
class Grid:
    """An image in patches, `height` x `width` of them, two by two in a cell, each cell one visual token.

    `cells` are those that are read, counted row by row; None stands for all.
    """

    height: int
    width: int
    cells: tuple[int, ...] | None = None

    @property
    def rows(self) -> int:
        """Cells from top to bottom."""
        return self.height // MERGE_SIDE

    @property
    def columns(self) -> int:
        """Cells from left to right."""
        return self.width // MERGE_SIDE

    @property
    def places(self) -> Ids:
        """The cells that are read [M], in order.

        >>> Grid(4, 4).places.tolist(), Grid(4, 4, (1, 2)).places.tolist()
        ([0, 1, 2, 3], [1, 2])
        """
        return np.arange(self.num_cells) if self.cells is None else np.array(self.cells, np.int64)

    @property
    def num_cells(self) -> int:
        """How many are read: the image's visual tokens."""
        return self.rows * self.columns if self.cells is None else len(self.cells)

    @property
    def num_patches(self) -> int:
        """How many patches that are."""
        return PATCHES_PER_TOKEN * self.num_cells


def smart_resize(height: int, width: int, budget: PixelBudget) -> tuple[int, int]:
    """The (height, width) at which an encoder sees an image: multiples of `budget.factor`, area within the budget.

    Qwen2.5-VL's own rule, to the pixel. Raises ConfigError on an empty image or one over 200 times as long as wide.

    >>> smart_resize(2339, 1654, PixelBudget())  # A4 at 200 dpi: 988 visual tokens
    (1064, 728)
    """
    if min(height, width) < 1 or max(height, width) > MAX_ASPECT_RATIO * min(height, width):
        raise ConfigError(
            f"an image of {width} x {height} pixels cannot be embedded: "
            f"its long side may be at most {MAX_ASPECT_RATIO} times its short side"
        )
    factor = budget.factor
    new_height, new_width = round(height / factor) * factor, round(width / factor) * factor
    if new_height * new_width > budget.max_pixels:
        shrink = math.sqrt(height * width / budget.max_pixels)
        new_height = max(factor, math.floor(height / shrink / factor) * factor)
        new_width = max(factor, math.floor(width / shrink / factor) * factor)
    elif new_height * new_width < budget.min_pixels:
        grow = math.sqrt(budget.min_pixels / (height * width))
        new_height = math.ceil(height * grow / factor) * factor
        new_width = math.ceil(width * grow / factor) * factor
    return new_height, new_width


def target_size(width: float, height: float, pixels: PixelBudget) -> tuple[int, int]:
    """Pixels (height, width) at which a page of this size in points is drawn once: its
    `smart_resize` at 200 dpi (988 visual tokens for A4, 1,008 for Letter).

    Absurd sizes (zero, negative, a million points) are clamped to the nearest page that can be drawn.

    >>> target_size(612, 792, PixelBudget())
    (1008, 784)
    """
    width, height = max(width, 1.0), max(height, 1.0)
    width, height = max(width, height / MAX_DRAWN_ASPECT), max(height, width / MAX_DRAWN_ASPECT)
    scale = min(DOTS_PER_INCH / POINTS_PER_INCH, 20_000 / max(width, height))
    return smart_resize(max(round(height * scale), 1), max(round(width * scale), 1), pixels)


def image_size(width: int, height: int, pixels: PixelBudget) -> tuple[int, int]:
    """Pixels (height, width) at which a picture of this size is seen by an encoder."""
    width, height = max(width, height // MAX_DRAWN_ASPECT, 1), max(height, width // MAX_DRAWN_ASPECT, 1)
    return smart_resize(height, width, pixels)


def fit_image(image: Pixels, budget: PixelBudget) -> Pixels:
    """The image at its `smart_resize` size (bicubic); one that has that size already comes back untouched.

    Raises ConfigError on anything but uint8 RGB of shape [H, W, 3].

    >>> fit_image(np.zeros((300, 700, 3), np.uint8), PixelBudget()).shape
    (308, 700, 3)
    """
    if image.ndim != 3 or image.shape[2] != 3 or image.dtype != np.uint8:
        raise ConfigError(f"an image must be uint8 RGB of shape [H, W, 3], not {image.dtype} of {list(image.shape)}")
    height, width = smart_resize(image.shape[0], image.shape[1], budget)
    if (height, width) == image.shape[:2]:
        return image
    return np.asarray(Image.fromarray(image).resize((width, height), Image.Resampling.BICUBIC))


def patchify(image: Pixels) -> Pixels:
    """Patch rows [P, 588] of an image [H, W, 3] whose sides are multiples of 28.

    Rows stand in the vision tower's order, the four patches of one merged token together; a row holds
    (channel, y, x). The second temporal copy that the model expects is equal, so it is not stored.

    >>> patchify(np.zeros((56, 84, 3), np.uint8)).shape
    (24, 588)
    """
    block = PATCH_SIDE * MERGE_SIDE
    rows, columns = image.shape[0] // block, image.shape[1] // block
    cells = image.reshape(rows, MERGE_SIDE, PATCH_SIDE, columns, MERGE_SIDE, PATCH_SIDE, 3)
    cells = cells.transpose(0, 3, 1, 4, 6, 2, 5)
    return np.ascontiguousarray(cells).reshape(-1, 3 * PATCH_SIDE * PATCH_SIDE)


def find_ink(patches: Pixels) -> Ids:
    """The cells [M] of patch rows [P, 588] that are not of one even colour; the first, where all of them are.

    >>> page = np.full((28, 84, 3), 255, np.uint8)
    >>> page[10:12, 40:42] = 0
    >>> find_ink(patchify(page)).tolist()
    [1]
    """
    cells = patches.reshape(-1, PATCHES_PER_TOKEN, 3, PATCH_SIDE**2)
    uneven = cells.max(axis=(1, 3)) - cells.min(axis=(1, 3)) > EVEN
    return np.flatnonzero(uneven.any(axis=1)) if uneven.any() else np.zeros(1, np.int64)


def normalise_patches(patches: Pixels) -> Floats:
    """Normalised `pixel_values` [P, 1176] of patch rows [P, 588]: channel, temporal copy, y, x.

    Equal to the numbers of transformers' Qwen2VLImageProcessor; they are also what masked autoencoding
    reconstructs (MoCa, section 3.1).

    >>> normalise_patches(np.zeros((4, 588), np.uint8)).shape
    (4, 1176)
    """
    mean, std = (np.asarray(values, np.float32)[:, None] for values in (PIXEL_MEAN, PIXEL_STD))
    scaled = (patches.reshape(len(patches), 3, PATCH_SIDE**2) * (1 / 255)).astype(np.float32)
    normal = (scaled - mean) / std
    return np.repeat(normal[:, :, None], TEMPORAL_COPIES, axis=2).reshape(
        len(patches), 3 * TEMPORAL_COPIES * PATCH_SIDE**2
    )
