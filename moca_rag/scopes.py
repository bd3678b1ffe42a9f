"""What a judged folder's rankings amount to: means beside chance, intervals, differences between modes."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path
from typing import NamedTuple, Self, TypeAlias

from .judged import JudgedQuery
from .metrics import Qrels, Run, bootstrap_interval, mean_scores, paired_difference
from .records import Mode

Scores: TypeAlias = dict[str, dict[str, float]]


class Estimate(NamedTuple):
    """A mean over questions and its 95% interval."""

    mean: float
    low: float
    high: float

    @classmethod
    def of(cls, values: Sequence[float]) -> Self:
        """The mean of these questions' values, and how far other questions of the same sort could move it."""
        return cls(sum(values) / len(values), *bootstrap_interval(values))


class Difference(NamedTuple):
    """How much better `first` is than `second` on the same questions, with its 95% interval."""

    first: Mode
    second: Mode
    mean: float
    low: float
    high: float


@dataclass(frozen=True, slots=True)
class Scope:
    """Every question over one choice of pages: `corpus`, all of them, or `document`, those of the document that answers.

    Keys are those of the kept files; in the document's scope a question comes once for each document that answers, as
    `question@document`. `chance` is what a random order would score.
    """

    name: str
    queries: dict[str, JudgedQuery]
    qrels: Qrels
    runs: dict[Mode, Run]
    scores: dict[Mode, Scores]
    chance: Scores

    @property
    def counted(self) -> str:
        """What its figures are means over."""
        return "questions" if self.name == "corpus" else "pairs of question and document"

    @property
    def kinds(self) -> list[str]:
        """The kinds of its questions, in the order in which they come; none where questions carry none."""
        return list(dict.fromkeys(query.kind for query in self.queries.values() if query.kind))

    def keys(self, kind: str | None = None) -> list[str]:
        """The questions of a kind, or all."""
        return [key for key, query in self.queries.items() if kind is None or query.kind == kind]

    def estimate(self, mode: Mode, measure: str, kind: str | None = None) -> Estimate:
        """The mean of a measure over all questions, or those of a kind."""
        return Estimate.of([self.scores[mode][key][measure] for key in self.keys(kind)])

    def expect(self, measure: str, kind: str | None = None) -> float:
        """The mean of a measure where pages come in random order."""
        return mean_scores({key: self.chance[key] for key in self.keys(kind)})[measure]

    def compare(self, measure: str) -> list[Difference]:
        """Each pair of modes, question by question."""
        rows = {mode: [scores[key][measure] for key in self.queries] for mode, scores in self.scores.items()}
        return [Difference(b, a, *paired_difference(rows[b], rows[a])) for a, b in combinations(rows, 2)]

    def rank(self, mode: Mode, key: str) -> int | None:
        """The rank of the first right page of a question, from 1; None where none was found."""
        right = {page for page, grade in self.qrels[key].items() if grade > 0}
        return next((rank for rank, page in enumerate(self.runs[mode][key], 1) if page in right), None)


@dataclass(frozen=True, slots=True)
class Judgement:
    """What a folder's questions found; `notes` say what counts as missed, and what was left out."""

    folder: Path
    kept: Path
    """Where the collection, the runs and the qrels lie."""
    model: str | None
    num_documents: int
    num_pages: int
    corpus: Scope
    document: Scope
    notes: list[str]
    weights: dict[str, float]
    """How far hybrid search believes each ranking, and `wordless` a page without words; empty without a model."""

    @property
    def modes(self) -> list[Mode]:
        """The modes that were asked."""
        return list(self.corpus.runs)

    @property
    def scopes(self) -> list[Scope]:
        """What there is to be told: where every document is one page, nothing can be missed within it."""
        return [self.corpus, self.document] if self.num_pages > self.num_documents else [self.corpus]
