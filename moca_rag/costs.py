"""How much arithmetic a sequence asks for: what batches are balanced by, and what speed is measured against."""

from collections.abc import Sequence

from .pixels import MERGE_SIDE, PATCH_SIDE, Grid
from .shapes import ModelShape, TextShape, VisionShape


def count_flops(shape: ModelShape, length: int, grids: Sequence[Grid] = ()) -> int:
    """Floating-point operations of one forward pass over a sequence of `length` tokens with images of these grids.

    Matrix products and attention alone (two operations a multiply-add); a training step takes three times as many.

    >>> from moca_rag.shapes import TextShape, VisionShape, VisionTokens
    >>> text = TextShape(151_936, 2048, 11_008, 36, 16, 2)
    >>> vision = VisionShape(hidden_size=1280, out_hidden_size=2048)
    >>> round(count_flops(ModelShape(text, vision, VisionTokens(1, 2, 3)), 1016, [Grid(72, 56)]) / 1e12, 1)  # Letter, 3B
    11.5
    """
    return count_text_flops(shape.text, length) + sum(count_image_flops(shape.vision, grid) for grid in grids)


def count_text_flops(shape: TextShape, length: int) -> int:
    """What the text layers do for a sequence, its visual tokens included."""
    keys = shape.num_key_value_heads * shape.head_size
    weights = 2 * shape.hidden_size * (shape.hidden_size + keys) + 3 * shape.hidden_size * shape.intermediate_size
    attention = 2 * shape.hidden_size * length
    return 2 * length * shape.num_hidden_layers * (weights + attention)


def count_image_flops(shape: VisionShape, grid: Grid) -> int:
    """What the vision tower does for one image; windows count as whole ones, at its edges and where cells are left out, too."""
    patches, merged = grid.num_patches, shape.hidden_size * MERGE_SIDE**2
    weights = 4 * shape.hidden_size**2 + 3 * shape.hidden_size * shape.intermediate_size
    full = len([index for index in shape.fullatt_block_indexes if index < shape.depth])
    seen = full * patches + (shape.depth - full) * min(patches, (shape.window_size // PATCH_SIDE) ** 2)
    layers = shape.depth * weights + 2 * shape.hidden_size * seen
    ends = 3 * PATCH_SIDE**2 * shape.hidden_size + merged * (merged + shape.out_hidden_size) // MERGE_SIDE**2
    return 2 * patches * (layers + ends)
