"""The row formats of training, one a stage: what a model is shown to restore (CPT), what it is to tell apart (CL).

A text says where its images stand: one IMAGE_SLOT for each, in the order of `images`. A text without any slot follows
its images, each on a line of its own. Images are whole files (PNG, JPEG, WebP and the like), decoded when needed.

Columns of a CPT table, as parquet or as JSON lines:

    text              string, the slots in it
    images            list of images

Columns of a CL table; what is missing is empty:

    task              string: a batch holds one task only
    instruction       string, put before the query's text
    query_text        string        query_images      list of images
    positive_text     string        positive_images   list of images
    negative_texts    list of strings, one a negative
    negative_images   list of lists of images, one list a negative

An image is a file's bytes, the hub's {bytes, path}, or a path into the table's folder, zip or tar of images. Where a
column holds one image or one text instead of a list, it counts as a list of one.
"""

import hashlib
import io
import re
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Self

from PIL import Image, ImageOps

from moca_rag.errors import ConfigError, DocumentError, one_line
from moca_rag.pixels import image_size
from moca_rag.records import PixelBudget, Pixels
from moca_rag.render import MAX_IMAGE_PIXELS, resize_image

IMAGE_SLOT = "<|vision_start|><|image_pad|><|vision_end|>"
# What pictures may be: Pillow has readers that start other programs (EPS), and none of those is wanted here.
IMAGE_FORMATS = ("PNG", "JPEG", "WEBP", "GIF", "BMP", "TIFF")
ORIENTATION = 0x0112  # of EXIF; from 5 on the picture lies on its side
TURN_MARKS = (b"eXIf", b"Raw profile type", b"tiff:Orientation")  # where a PNG says that it is turned
LEADING_SLOTS = re.compile(rf"(?:{re.escape(IMAGE_SLOT)}\n?)*")


class RowError(DocumentError):
    """A row, or an image of one, that cannot be read; it may be skipped."""

    def __init__(self, message: str, code: str = "broken") -> None:
        super().__init__(message, code)


@dataclass(frozen=True, slots=True)
class Side:
    """One side of a pair: a text with its images' slots, and the images as files."""

    text: str = ""
    images: tuple[bytes, ...] = ()

    @property
    def key(self) -> int:
        """A signed 64-bit hash of the content: equal sides are the same document, wherever they were read."""
        return int.from_bytes(_digest([self.text.strip()], self.images)[:8], "little", signed=True)

    @property
    def is_empty(self) -> bool:
        """Whether there is nothing to encode."""
        return not self.images and not self.text.strip()


@dataclass(frozen=True, slots=True)
class CptRow:
    """A row of stage one. Its id is a hash of its content, so masks never depend on where a file lies."""

    row_id: str
    text: str
    images: tuple[bytes, ...]

    @classmethod
    def of(cls, text: str, images: Iterable[bytes] = ()) -> Self:
        """The row of this content. Raises RowError where there is none."""
        images = tuple(images)
        if not images and not text.strip():
            raise RowError("it has neither text nor image", "empty")
        return cls(_digest([text], images).hex(), text, images)


@dataclass(frozen=True, slots=True)
class PairRow:
    """A row of stage two: a query, what answers it, and what looks alike but does not; its id is a hash of all that.

    The positive may answer `others` as well, which tables cannot say, and composed pages can.
    """

    row_id: str
    task: str
    instruction: str
    query: Side
    positive: Side
    negatives: tuple[Side, ...]
    others: tuple[Side, ...] = ()

    @classmethod
    def of(
        cls,
        task: str,
        query: Side,
        positive: Side,
        negatives: Iterable[Side] = (),
        *,
        instruction: str = "",
        others: Iterable[Side] = (),
    ) -> Self:
        """The row of this content. Raises RowError where query or positive is empty; an empty negative is left out."""
        if query.is_empty or positive.is_empty:
            name = "query" if query.is_empty else "positive"
            raise RowError(f"its {name} has neither text nor image", "empty")
        negatives, others = (tuple(side for side in sides if not side.is_empty) for sides in (negatives, others))
        sides = (query, positive, *negatives, *others)
        digest = _digest([task, instruction], [_digest([side.text], side.images) for side in sides])
        return cls(digest.hex(), task, instruction, query, positive, negatives, others)

    @property
    def asked(self) -> Side:
        """The query as an encoder reads it: the images in front, the instruction, the rest of the text."""
        return self._instruct(self.query)

    @property
    def questions(self) -> list[Side]:
        """All that the positive answers, as an encoder reads it."""
        return [self.asked, *map(self._instruct, self.others)]

    def _instruct(self, query: Side) -> Side:
        if not self.instruction:
            return query
        text = LEADING_SLOTS.sub(lambda slots: f"{slots[0]}{self.instruction}\n", query.text, count=1)
        return Side(text.rstrip("\n"), query.images)


def decode_image(data: bytes, budget: PixelBudget | None = None) -> Pixels:
    """Pixels [H, W, 3] at the size within the budget (default: the paper's), turned upright, on white paper.

    Raises RowError on what is no picture, is cut short, or claims more than 400 million pixels: a row without its
    picture is skipped, never trained on as a black square.
    """
    budget = budget or PixelBudget()
    with _refusing(data):
        with _open_image(data) as image:
            size = image_size(*image.size, budget)
            image.draft("RGB", (2 * max(size), 2 * max(size)))  # a JPEG of 100 megapixels is decoded at an eighth
            if image_size(*image.size, budget) == size:
                return resize_image(ImageOps.exif_transpose(image), budget)
        with _open_image(data) as image:  # an eighth was rounded to another shape
            return resize_image(ImageOps.exif_transpose(image), budget)


def split_parts(text: str, images: Sequence[bytes], budget: PixelBudget | None = None) -> list[str | Pixels]:
    """Texts and decoded images in order, as `moca_rag.inputs.SequenceBuilder.build` takes them.

    Raises RowError where slots and images are not as many, or an image cannot be decoded.

    >>> split_parts("a caption", [])
    ['a caption']
    """
    parts: list[str | Pixels] = []
    for position, piece in enumerate(split_text(text, len(images))):
        if position:
            parts.append(decode_image(images[position - 1], budget))
        if piece:
            parts.append(piece)
    return parts


def split_text(text: str, num_images: int) -> list[str]:
    """The pieces of a text before, between and after its images; one without any slot follows its images.

    Raises RowError where slots and images are not as many.
    """
    pieces = text.split(IMAGE_SLOT)
    if num_images and len(pieces) == 1:
        pieces = [""] + ["\n"] * (num_images - 1) + ["\n" + text if text else ""]
    if len(pieces) != num_images + 1:
        raise RowError(f"its text has {len(pieces) - 1} image slots for {num_images} images", "slots")
    return pieces


def measure_image(data: bytes, budget: PixelBudget) -> tuple[int, int]:
    """Pixels (height, width) that `decode_image` will give, from the file's head alone. Raises RowError."""
    with _refusing(data), _open_image(data) as image:
        width, height = image.size
        # Pillow decodes a whole PNG to look for a turn that is almost never there.
        may_turn = image.format != "PNG" or any(mark in data for mark in TURN_MARKS)
        if may_turn and image.getexif().get(ORIENTATION, 1) >= 5:
            width, height = height, width
        return image_size(width, height, budget)


def _open_image(data: bytes) -> Image.Image:
    Image.MAX_IMAGE_PIXELS = MAX_IMAGE_PIXELS // 2  # Pillow refuses at twice its limit
    return Image.open(io.BytesIO(data), formats=IMAGE_FORMATS)


@contextmanager
def _refusing(data: bytes) -> Iterator[None]:
    """Turn what Pillow raises on a bad image into RowError."""
    try:
        yield
    except (OSError, ValueError, SyntaxError, EOFError, ConfigError, Image.DecompressionBombError) as error:
        raise RowError(f"an image of {len(data):,} bytes cannot be decoded ({one_line(error)})") from error


def _digest(texts: Iterable[str], images: Iterable[bytes]) -> bytes:
    """16 bytes that change with every part and with where one part ends."""
    digest = hashlib.blake2b(digest_size=16)
    for kind, parts in ((b"t", (text.encode("utf-8", "surrogatepass") for text in texts)), (b"i", images)):
        for part in parts:
            digest.update(kind + len(part).to_bytes(8, "little") + part)
    return digest.digest()
