"""How much of a teacher's sense for paraphrases a small model has: definitions of one word by two dictionaries find each other.

python benchmarks/paraphrases.py MODEL... --teacher FOLDER --dictionaries DIR

DIR holds `gcide` and `wn` as .dict.dz and .index (Debian's packages dict-gcide and dict-wn, usr/share/dictd); FOLDER is a
model of sentence-transformers. A query is Webster's definition of a word, the documents are WordNet's of all words, text to
text; words that either dictionary knows in several senses, or explains by themselves, are left out. Nothing is learnt from
either. Printed are nDCG@5 and hit@1 with 95% intervals, and the share of the teacher's nDCG@5.
"""

import argparse
import gzip
import re
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from moca_rag.train.teacher import Teacher
from rich.console import Console
from rich.table import Table

from moca_rag.embedder import Embedder
from moca_rag.metrics import bootstrap_interval
from moca_rag.records import Floats, Query

DIGITS = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/"
WORDS = (6, 40)  # of a definition


def main() -> None:
    """Parse the command line, print one table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("models", nargs="+", metavar="MODEL")
    parser.add_argument("--teacher", type=Path, required=True, metavar="FOLDER")
    parser.add_argument("--dictionaries", type=Path, required=True, metavar="DIR")
    parser.add_argument("--pairs", type=int, default=2000)
    options = parser.parse_args()
    pairs = pair_definitions(options.dictionaries, options.pairs)
    queries, documents = ([pair[side] for pair in pairs] for side in (0, 1))
    table = Table(title=f"{len(pairs):,} definitions of one dictionary asked for by another's")
    for column in ("encoder", "nDCG@5", "hit@1", "of the teacher"):
        table.add_column(column, justify="left" if column == "encoder" else "right")
    teacher = Teacher.open(options.teacher)
    best = judge(teacher.encode(queries), teacher.encode(documents))
    add_row(table, f"teacher ({options.teacher.name})", best, best)
    for model in options.models:
        embedder = Embedder.open(model)
        sides = [embedder.encode_queries([Query(text) for text in texts]) for texts in (queries, documents)]
        add_row(table, model, judge(*sides), best)
    Console(width=100).print(table)


def judge(queries: Floats, documents: Floats) -> Floats:
    """nDCG@5 and hit@1 [2, N] of queries whose document has their own number; a tie counts against."""
    scores = queries @ documents.T
    ranks = (scores >= np.diag(scores)[:, None]).sum(axis=1)
    return np.stack([np.where(ranks <= 5, 1 / np.log2(ranks + 1), 0.0), ranks == 1]).astype(np.float32)


def add_row(table: Table, name: str, found: Floats, best: Floats) -> None:
    """One encoder's line."""
    intervals = [bootstrap_interval(row.tolist()) for row in found]
    told = [f"{row.mean():.3f} ({low:.2f} to {high:.2f})" for row, (low, high) in zip(found, intervals, strict=True)]
    table.add_row(name, *told, f"{found[0].mean() / best[0].mean():.2f}")


def pair_definitions(folder: Path, number: int) -> list[tuple[str, str]]:
    """Definitions of the same words, drawn evenly from the alphabet: Webster's and WordNet's."""
    webster = {word: clean for word, text in read_entries(folder, "gcide") if (clean := clean_webster(text))}
    wordnet = {word: clean for word, text in read_entries(folder, "wn") if (clean := clean_wordnet(text))}
    both = [
        (webster[word], wordnet[word])
        for word in sorted(webster.keys() & wordnet.keys())
        if word not in f"{webster[word]} {wordnet[word]}".lower() and webster[word] != wordnet[word]
    ]
    return both[:: max(1, len(both) // number)][:number]


def read_entries(folder: Path, name: str) -> Iterator[tuple[str, str]]:
    """Words that a dictionary has one entry for, and the entries."""
    content = gzip.decompress((folder / f"{name}.dict.dz").read_bytes())
    places: dict[str, list[tuple[int, int]]] = {}
    for line in (folder / f"{name}.index").read_text(encoding="utf-8").splitlines():
        word, start, length = line.split("\t")[:3]
        places.setdefault(word.lower(), []).append((_number(start), _number(length)))
    for word, found in places.items():
        if len(found) == 1 and word.isalpha() and len(word) > 3:
            ((first, size),) = found
            yield word, content[first : first + size].decode("utf-8", "replace")


def clean_webster(entry: str) -> str:
    """The definition of an entry with one sense, without what stands around it; nothing where it cannot be told."""
    body = "\n".join(entry.splitlines()[1:])
    if "WordNet" in entry or re.search(r"^\s*(\d+\.|\(a\))", body, re.MULTILINE):
        return ""
    told = re.split(r"\[1913 Webster|\n\s*\n|--[A-Z]|Note:|\[", body)[0]
    return "" if "]" in told else _fit(told)


def clean_wordnet(entry: str) -> str:
    """The definition of an entry with one sense, without examples and synonyms."""
    found = re.findall(r"(?:^|\s)(?:n|v|adj|adv)(?: 1)?: ", entry)
    if len(found) != 1 or re.search(r"^\s+2: ", entry, re.MULTILINE):
        return ""
    return _fit(re.split(r"; \"|\[syn|\[ant|\[also", entry.split(found[0], 1)[1])[0])


def _fit(text: str) -> str:
    clean = re.sub(r"[{}]", "", " ".join(text.split())).strip(" ;.")
    return clean if WORDS[0] <= len(clean.split()) <= WORDS[1] else ""


def _number(text: str) -> int:
    number = 0
    for digit in text:
        number = number * 64 + DIGITS.index(digit)
    return number


if __name__ == "__main__":
    main()
