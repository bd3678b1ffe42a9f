"""Reads a folder of PDFs with questions and the pages that answer them, and keeps what was ranked as TREC files."""

import json
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote, unquote

from .errors import ConfigError, one_line
from .metrics import Qrels, Run
from .terms import match_expression

PDFS, QUERIES, QRELS = "pdfs", "queries.jsonl", "qrels.tsv"
_ID_KEYS, _TEXT_KEYS = ("_id", "query_id", "id"), ("text", "query")


@dataclass(frozen=True, slots=True)
class JudgedQuery:
    """One question; `kind` is what its author calls its sort, or empty."""

    query_id: str
    text: str
    kind: str = ""


@dataclass(frozen=True, slots=True)
class JudgedFolder:
    """A folder with `pdfs/`, `queries.jsonl` and `qrels.tsv`; page ids as its author wrote them."""

    path: Path
    queries: tuple[JudgedQuery, ...]
    qrels: Qrels

    @property
    def pdfs(self) -> Path:
        """The folder that is indexed."""
        return self.path / PDFS


def read_judged(folder: Path) -> JudgedFolder:
    """Read the questions and judgements of a folder.

    A line of `queries.jsonl` is an object with `_id` (or `query_id`), `text` and, if you like, `kind`. A line of
    `qrels.tsv` names a query, a page as `report.pdf#3` and a grade (0: no answer), separated by tabs, below a header
    or none; TREC's four columns are read too. Raises ConfigError, naming the line that cannot be used.
    """
    if not (folder / PDFS).is_dir():
        raise ConfigError(f"{folder} has no folder {PDFS}/: put the documents there, beside {QUERIES} and {QRELS}")
    queries = {query.query_id: query for query in _read_queries(folder / QUERIES)}
    qrels: Qrels = {}
    for query_id, page_id, grade in _read_qrels(folder / QRELS):
        qrels.setdefault(query_id, {})[page_id] = grade
    return JudgedFolder(folder, tuple(queries.values()), qrels)


def _read_lines(path: Path) -> list[tuple[str, str]]:
    """The lines with something on them, each behind the place that an error names."""
    try:
        lines = path.read_text(encoding="utf-8-sig").splitlines()
    except FileNotFoundError as error:
        raise ConfigError(f"{path} is missing: see `moca eval folder --help` for what it holds") from error
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path} cannot be read: {one_line(error)}") from error
    found = [(f"{path}, line {number}", line) for number, line in enumerate(lines, 1) if line.strip()]
    if not found:
        raise ConfigError(f"{path} is empty: see `moca eval folder --help` for what it holds")
    return found


def _read_queries(path: Path) -> Iterator[JudgedQuery]:
    seen: set[str] = set()
    for place, line in _read_lines(path):
        try:
            row = json.loads(line)
        except (ValueError, RecursionError) as error:
            raise ConfigError(f"{place} is no JSON object: {one_line(error)}") from error
        if not isinstance(row, dict):
            raise ConfigError(f"{place} is no JSON object but {line[:40]!r}")
        query_id = next((str(row[key]) for key in _ID_KEYS if key in row), "")
        text = next((str(row[key]) for key in _TEXT_KEYS if key in row), "")
        if not query_id or query_id in seen:
            raise ConfigError(f"{place}: the query id {query_id!r} is missing or there twice: give each its own `_id`")
        if match_expression(text) is None:
            raise ConfigError(f"{place}: the text {text!r} of query {query_id} has no word in it: write a question")
        seen.add(query_id)
        yield JudgedQuery(query_id, text, str(row.get("kind") or ""))


def _read_qrels(path: Path) -> Iterator[tuple[str, str, int]]:
    for index, (place, line) in enumerate(_read_lines(path)):
        columns = line.rstrip("\r\n").split("\t") if "\t" in line else line.split()
        if len(columns) == 4:  # TREC's second column means nothing
            columns.pop(1)
        if len(columns) != 3:
            raise ConfigError(f"{place} has {len(columns)} columns: write query id, file.pdf#page, grade between tabs")
        query_id, page_id, grade = (column.strip() for column in columns)
        if not re.fullmatch(r"[+-]?\d+", grade):
            if index == 0:  # a header
                continue
            raise ConfigError(f"{place}: the grade {grade!r} is no whole number: write 0, 1 or more")
        if not re.fullmatch(r".+#\d+", page_id):
            raise ConfigError(f"{place}: {page_id!r} names no page: write file.pdf#page, as in report.pdf#3")
        yield query_id, page_id, int(grade)


def make_key(name: str) -> str:
    """A name without blanks, as the columns of TREC files need it.

    >>> make_key("annual report.pdf#3"), read_key("annual%20report.pdf#3")
    ('annual%20report.pdf#3', 'annual report.pdf#3')
    """
    return re.sub(r"[\s%]", lambda match: quote(match[0]), name)


def read_key(key: str) -> str:
    """The name behind a key."""
    return unquote(key)


def write_qrels(path: Path, qrels: Qrels) -> None:
    """TREC's qrels: query, 0, page, grade."""
    rows = (f"{query} 0 {page} {grade}" for query, grades in qrels.items() for page, grade in grades.items())
    _write_rows(path, rows)


def write_run(path: Path, run: Run, tag: str) -> None:
    """TREC's run: query, Q0, page, rank, score, tag; each query's pages in the order given, best first."""
    rows = (
        f"{query} Q0 {page} {rank} {score!r} {tag}"
        for query, scores in run.items()
        for rank, (page, score) in enumerate(scores.items(), 1)
    )
    _write_rows(path, rows)


def _write_rows(path: Path, rows: Iterable[str]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(f"{row}\n" for row in rows), encoding="utf-8")


def list_names(names: Sequence[str], shown: int = 5) -> str:
    """Names in a row, the first few of many.

    >>> list_names(["q1", "q2", "q3"], 2)
    'q1, q2 and 1 more'
    """
    more = f" and {len(names) - shown} more" if len(names) > shown else ""
    return ", ".join(names[:shown]) + more
