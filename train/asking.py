"""What an exam asks: sentences, headings and keywords that stand on one page only, written as a judged folder has them."""

import json
import math
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np

from moca_rag.errors import ConfigError
from moca_rag.judged import QRELS, QUERIES

from .corruption import derive_seed
from .letters import clean_word
from .settings import ExamSettings

KEYWORD = re.compile(r"[a-z]{4,}")
NUM_KEYWORDS = 4


class Question(NamedTuple):
    """What is asked, and the page that answers it."""

    kind: str
    text: str
    page: str


@dataclass(frozen=True, slots=True)
class Sheet:
    """What stands on a page of the exam: its file, its texts by kind (`sentence`, `heading`), and how often each word."""

    file: str
    texts: Mapping[str, Sequence[str]]
    words: Counter[str]


def check_exam(out: Path, settings: ExamSettings) -> None:
    """Raises ConfigError where `out` is taken, or a share or a number of pages is none."""
    if not 0 <= settings.searchable <= 1:
        raise ConfigError(f"--searchable {settings.searchable}: give a share of the pages from 0 to 1")
    if settings.pages < 1:
        raise ConfigError(f"--pages {settings.pages}: give 1 or more")
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise ConfigError(f"{out} is there already: give a folder that is new or empty")


def is_searchable(name: str, settings: ExamSettings) -> bool:
    """Whether the page of this name is written with its text layer."""
    return bool(np.random.default_rng(derive_seed(settings.seed, 0, name)).random() < settings.searchable)


def count_keywords(words: Iterable[str]) -> Counter[str]:
    """How often each word stands there that could be a keyword."""
    return Counter(word for word in map(clean_word, words) if KEYWORD.fullmatch(word))


def write_questions(out: Path, sheets: Sequence[Sheet], settings: ExamSettings) -> dict[str, int]:
    """Write `queries.jsonl` and `qrels.tsv`; how many questions there are of each kind."""
    counts: Counter[str] = Counter()
    for sheet in sheets:
        counts.update({*sheet.words, *(text for texts in sheet.texts.values() for text in texts)})
    asked = [question for sheet in sheets for question in ask(sheet, counts, len(sheets), settings)]
    named = [(f"{question.kind.replace(' ', '-')}-{number:05d}", question) for number, question in enumerate(asked, 1)]
    lines = [json.dumps({"_id": name, "text": one.text, "kind": one.kind}, ensure_ascii=False) for name, one in named]
    (out / QUERIES).write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
    judged = [f"{name}\t{one.page}#1\t1\n" for name, one in named]
    (out / QRELS).write_text("query-id\tcorpus-id\tscore\n" + "".join(judged), encoding="utf-8")
    return dict(Counter(question.kind for question in asked))


def ask(sheet: Sheet, counts: Mapping[str, int], num_pages: int, settings: ExamSettings) -> Iterator[Question]:
    """What this page alone answers; `counts` says on how many pages each text and word stands.

    Where pages with a text layer and pages without are written, a question's kind says which one it asks for.
    """
    rng = np.random.default_rng(derive_seed(settings.seed, 0, Path(sheet.file).stem))
    of = "" if settings.searchable in (0, 1) else f" {Path(sheet.file).suffix[1:]}"
    for kind, texts in sheet.texts.items():
        own = [text for text in texts if counts[text] == 1]
        if own:
            yield Question(kind + of, own[int(rng.integers(len(own)))], sheet.file)
    keywords = find_keywords(sheet.words, counts, num_pages)
    if len(keywords) == NUM_KEYWORDS:
        yield Question("keywords" + of, " ".join(keywords), sheet.file)


def find_keywords(
    words: Mapping[str, int], counts: Mapping[str, int], num_pages: int, number: int = NUM_KEYWORDS
) -> list[str]:
    """The words that say most about a page: often on it, and on few others.

    >>> find_keywords({"coal": 3, "with": 5, "iron": 1}, {"coal": 2, "with": 90, "iron": 1}, 100, number=2)
    ['coal', 'iron']
    """
    weights = {word: times * math.log(num_pages / counts[word]) for word, times in words.items()}
    return sorted(weights, key=lambda word: (-weights[word], word))[:number]
