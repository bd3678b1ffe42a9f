"""Turns a raw row of a published or a user's own table into a row of training."""

import ast
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from itertools import islice, zip_longest
from typing import Any

from moca_rag.checkpoint import PAGE_PROMPT

from .rows import IMAGE_SLOT, CptRow, PairRow, RowError, Side

Raw = Mapping[str, Any]
MMEB_SLOT = "<|image_1|>"
PAGE_TEXT = f"{IMAGE_SLOT}\n{PAGE_PROMPT}"
MAX_LITERAL_SIGNS = 1_000_000
# A list of plain strings and None, or one string: nothing nested, computed or formatted reaches the parser.
STRING = r"""'(?:[^'\\\n]|\\.)*+'|"(?:[^"\\\n]|\\.)*+\""""
ITEM = rf"\s*+(?:{STRING}|None)\s*+"
LITERAL = re.compile(rf"\s*+(?:{STRING}|\[(?:{ITEM}(?:,{ITEM})*+,?+)?+\s*+\])\s*+", re.DOTALL)


@dataclass(frozen=True, slots=True)
class Context:
    """What a row needs beside its own values: how to load an image, its task where it names none, how many negatives."""

    load: Callable[[Any], bytes]
    task: str
    negatives: int


@dataclass(frozen=True, slots=True)
class Schema:
    """How a table is read for each stage, and the columns that this takes; of each inner group one must be there."""

    cpt: Callable[[Raw, Context], CptRow] | None
    pairs: Callable[[Raw, Context], PairRow] | None
    columns: tuple[str, ...]
    needed_cpt: tuple[tuple[str, ...], ...] = ()
    needed_pairs: tuple[tuple[str, ...], ...] = ()


def read_strings(text: str) -> list[str]:
    """The strings of a Python list literal, None as an empty one; a single string literal is a list of one.

    Raises RowError on anything else, before Python's own parser sees it.

    >>> read_strings("['it\\\\'s', None]")
    ["it's", '']
    """
    if len(text) > MAX_LITERAL_SIGNS:
        raise RowError(f"a list of {len(text):,} signs is over the limit of {MAX_LITERAL_SIGNS:,}", "too_large")
    if not LITERAL.fullmatch(text):
        raise RowError(f"not a list of strings: {text[:60]!r}")
    try:
        value = ast.literal_eval(text.strip())
    except (ValueError, SyntaxError) as error:
        raise RowError(f"not a list of strings ({error}): {text[:60]!r}") from error
    return [item or "" for item in ([value] if isinstance(value, str) else value)]


def _text(row: Raw, name: str) -> str:
    value = row.get(name)
    if value is not None and not isinstance(value, str):
        raise RowError(f"{name} must be a string, not {type(value).__name__}")
    return value or ""


def _list(row: Raw, name: str) -> list[Any]:
    value = row.get(name)
    if value is None or value == "":
        return []
    return value if isinstance(value, list) else [value]


def _read_cpt(row: Raw, context: Context) -> CptRow:
    return CptRow.of(_text(row, "text"), map(context.load, _list(row, "images")))


def _read_pair(row: Raw, context: Context) -> PairRow:
    def side(name: str) -> Side:
        return Side(_text(row, f"{name}_text"), tuple(map(context.load, _list(row, f"{name}_images"))))

    def negative(text: Any, images: Any) -> Side:
        images = images if isinstance(images, list) else [images] if images else []
        return Side(_text({"negative_texts": text}, "negative_texts"), tuple(map(context.load, images)))

    stored = zip_longest(_list(row, "negative_texts"), _list(row, "negative_images"))
    negatives = (negative(text, images) for text, images in stored if text or images)
    return PairRow.of(
        _text(row, "task") or context.task,
        side("query"),
        side("positive"),
        islice(negatives, context.negatives),
        instruction=_text(row, "instruction"),
    )


def _mmeb_side(text: str, path: Any, context: Context) -> Side:
    """A text with its one image, or none: then the slot that some published texts have all the same goes, too."""
    if not path:
        return Side(text.replace(f"{MMEB_SLOT}\n", "").replace(MMEB_SLOT, ""))
    return Side(text.replace(MMEB_SLOT, IMAGE_SLOT), (context.load(path),))


def _read_mmeb(row: Raw, context: Context, parse: Callable[[str], list[str]]) -> PairRow:
    """MMEB-train, with one negative or none, and MoCa-CL-Pairs, with a list of them in one string."""
    texts, paths = (parse(_text(row, name)) if row.get(name) else [] for name in ("neg_text", "neg_image_path"))
    stored = zip_longest(texts, paths, fillvalue="")
    negatives = (
        _mmeb_side(text, path, context) for text, path in stored if path or text.replace(MMEB_SLOT, "").strip()
    )
    return PairRow.of(
        context.task,
        _mmeb_side(_text(row, "qry"), row.get("qry_image_path"), context),
        _mmeb_side(_text(row, "pos_text"), row.get("pos_image_path"), context),
        islice(negatives, context.negatives),
    )


def _only(text: str) -> list[str]:
    return [text]


def _read_mmeb_cpt(row: Raw, context: Context) -> CptRow:
    """Query and answer in one text."""
    sides = [
        _mmeb_side(_text(row, text), row.get(path), context)
        for text, path in (("qry", "qry_image_path"), ("pos_text", "pos_image_path"))
    ]
    # A text without a slot follows its image; joined with another text it has to say so.
    texts = [
        side.text if not side.images or IMAGE_SLOT in side.text else f"{IMAGE_SLOT}\n{side.text}" for side in sides
    ]
    return CptRow.of("\n".join(filter(None, texts)), [image for side in sides for image in side.images])


def _read_colpali(row: Raw, context: Context) -> PairRow:
    return PairRow.of(context.task, Side(_text(row, "query")), Side(PAGE_TEXT, (context.load(row.get("image")),)))


def _read_colpali_cpt(row: Raw, context: Context) -> CptRow:
    words = [_text(row, "query"), ", ".join(map(str, _list(row, "answer")))]
    return CptRow.of("\n".join([IMAGE_SLOT, *filter(None, words)]), [context.load(row.get("image"))])


def _read_docmatix(row: Raw, context: Context) -> CptRow:
    """All pages of a document, then its questions and answers."""
    images = [context.load(value) for value in _list(row, "images")]
    turns = _list(row, "texts")
    if not all(isinstance(turn, dict) for turn in turns):
        raise RowError("texts must be a list of {user, assistant}")
    words = [_text(turn, name) for turn in turns for name in ("user", "assistant")]
    return CptRow.of("\n".join([IMAGE_SLOT] * len(images) + list(filter(None, words))), images)


MMEB_COLUMNS = ("qry", "qry_image_path", "pos_text", "pos_image_path", "neg_text", "neg_image_path")
MMEB_NEEDED = (("qry",), ("pos_text",))
PAIR_COLUMNS = (
    *("task", "instruction", "query_text", "query_images", "positive_text", "positive_images"),
    *("negative_texts", "negative_images"),
)
PAIR_NEEDED = (("query_text", "query_images"), ("positive_text", "positive_images"))

SCHEMAS = {
    "rows": Schema(_read_cpt, _read_pair, ("text", "images", *PAIR_COLUMNS), (("text", "images"),), PAIR_NEEDED),
    "moca-cl-pairs": Schema(
        _read_mmeb_cpt, partial(_read_mmeb, parse=read_strings), MMEB_COLUMNS, MMEB_NEEDED, MMEB_NEEDED
    ),
    "mmeb-train": Schema(_read_mmeb_cpt, partial(_read_mmeb, parse=_only), MMEB_COLUMNS, MMEB_NEEDED, MMEB_NEEDED),
    "colpali": Schema(
        _read_colpali_cpt, _read_colpali, ("query", "answer", "image"), (("image",),), (("query",), ("image",))
    ),
    "docmatix": Schema(_read_docmatix, None, ("images", "texts"), (("images",), ("texts",))),
}
