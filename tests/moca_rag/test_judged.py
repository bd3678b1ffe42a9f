import json
import os
import shutil
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from moca_rag.indexer.pipeline import index_documents

from moca_rag.errors import ConfigError, ModelError
from moca_rag.judged import read_judged, read_key
from moca_rag.judging import judge_folder
from moca_rag.metrics import MEASURES
from moca_rag.progress import SilentReporter
from moca_rag.records import Encoder, Floats, Mode, Pixels, Query
from moca_rag.scopes import Judgement, Scope
from tests.fakes import ColourEncoder, write_pdf

QUERIES = [
    {"_id": "q1", "text": "where is the red square", "kind": "colour"},
    {"_id": "q2", "text": "the blue harbour", "kind": "both"},
    {"_id": "q3", "text": "harbour timetable", "kind": "words"},
]
QRELS = "query-id\tcorpus-id\tscore\nq1\tcolours [1].pdf#1\t1\nq2\tcolours [1].pdf#3\t2\nq2\tports.pdf#2\t1\nq3\tports.pdf#1\t1\n"


@pytest.fixture
def place(tmp_path: Path) -> Path:
    write_pdf(tmp_path / "judged" / "pdfs" / "colours [1].pdf", ["red: paint", "green: paint", "blue: paint"])
    write_pdf(tmp_path / "judged" / "pdfs" / "ports.pdf", ["the harbour timetable", "blue: harbour", "red: harbour"])
    return write_questions(tmp_path / "judged")


def write_questions(folder: Path, queries: Sequence[dict[str, Any]] = QUERIES, qrels: str = QRELS) -> Path:
    (folder / "queries.jsonl").write_text("".join(json.dumps(query) + "\n" for query in queries), encoding="utf-8")
    (folder / "qrels.tsv").write_text(qrels, encoding="utf-8")
    return folder


def judge(folder: Path, encoder: Encoder | None = None, modes: Sequence[Mode] | None = None) -> Judgement:
    chosen: Sequence[Mode] = modes or (["text"] if encoder is None else ["text", "vision", "hybrid"])
    cache = folder.parent / "cache"
    return judge_folder(read_judged(folder), index_documents, encoder, chosen, cache, SilentReporter())


def found(scope: Scope, mode: Mode, measure: str = "ndcg_cut_5") -> dict[str, float]:
    return {key: round(scores[measure], 3) for key, scores in scope.scores[mode].items()}


# -- reading ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "qrels",
    [
        "q1\ta.pdf#1\t2\nq2\tb.pdf#3\t0\n",
        "query-id\tcorpus-id\tscore\nq1\ta.pdf#1\t2\n\nq2\tb.pdf#3\t0\n",
        "q1 0 a.pdf#1 2\nq2 0 b.pdf#3 0\n",
        "q1\t0\ta.pdf#1\t2\r\nq2\t0\tb.pdf#3\t0\r\n",
    ],
    ids=["plain", "beir", "trec", "trec-tabs"],
)
@pytest.mark.parametrize(("id_key", "text_key"), [("_id", "text"), ("query_id", "text"), ("id", "query")])
def test_the_usual_layouts_are_read(place: Path, qrels: str, id_key: str, text_key: str) -> None:
    judged = read_judged(
        write_questions(place, [{id_key: "q1", text_key: "one?"}, {id_key: "q2", text_key: "two?"}], qrels)
    )
    assert judged.qrels == {"q1": {"a.pdf#1": 2}, "q2": {"b.pdf#3": 0}}
    assert [(query.query_id, query.text, query.kind) for query in judged.queries] == [
        ("q1", "one?", ""),
        ("q2", "two?", ""),
    ]


@pytest.mark.parametrize(
    ("queries", "qrels", "complaint"),
    [
        ("", QRELS, "queries.jsonl is empty"),
        ("{", QRELS, "queries.jsonl, line 1 is no JSON object"),
        ("[1]", QRELS, r"line 1 is no JSON object but '\[1\]'"),
        ('\n{"text": "a b"}', QRELS, "line 2: the query id '' is missing"),
        (
            '{"_id": 1, "text": "alpha"}\n{"_id": 1, "text": "beta"}',
            QRELS,
            "line 2: the query id '1' is missing or there twice",
        ),
        ('{"_id": "q", "text": " ?"}', QRELS, "the text ' \\?' of query q has no word"),
        ('{"_id": "q", "text": "alpha"}', "q\ta.pdf#1\n", "line 1 has 2 columns"),
        (
            '{"_id": "q", "text": "alpha"}',
            "q\ta.pdf#1\t1\nq\ta.pdf#2\tyes\n",
            "line 2: the grade 'yes' is no whole number",
        ),
        ('{"_id": "q", "text": "alpha"}', "q\ta.pdf\t1\n", "'a.pdf' names no page"),
        ('{"_id": "q", "text": "alpha"}', "q\ta.pdf#1\t1\n", "no query has a right page|do the query ids agree"),
    ],
)
def test_what_cannot_be_read_is_named_with_its_line(place: Path, queries: str, qrels: str, complaint: str) -> None:
    write_questions(place, qrels=qrels)
    (place / "queries.jsonl").write_text(queries)
    if "agree" in complaint:
        (place / "queries.jsonl").write_text('{"_id": "other", "text": "alpha"}')
    with pytest.raises(ConfigError, match=complaint):
        judge(place)


def test_a_folder_that_lacks_a_part_says_which(place: Path, tmp_path: Path) -> None:
    (place / "qrels.tsv").unlink()
    with pytest.raises(ConfigError, match=r"qrels\.tsv is missing"):
        read_judged(place)
    with pytest.raises(ConfigError, match="has no folder pdfs/"):
        read_judged(tmp_path)


# -- figures ----------------------------------------------------------------------------------------------------------


def test_each_mode_finds_what_it_can(place: Path) -> None:
    judgement = judge(place, ColourEncoder())
    assert judgement.modes == ["text", "vision", "hybrid"]
    assert (judgement.num_documents, judgement.num_pages, judgement.notes) == (2, 6, [])
    text, vision = found(judgement.corpus, "text"), found(judgement.corpus, "vision")
    assert text["q3"] == 1
    assert text["q1"] == 0
    assert vision["q1"] > 0.6
    assert vision["q2"] == 0.86  # both blue pages tie, and the less good one has the later name
    assert judgement.corpus.expect("recall_5") == pytest.approx(5 / 6)
    assert judgement.corpus.estimate("text", "ndcg_cut_5", "words").mean == 1
    assert [(d.first, d.second) for d in judgement.corpus.compare("recall_5")] == [
        ("vision", "text"), ("hybrid", "text"), ("hybrid", "vision")
    ]  # fmt: skip
    difference = judgement.corpus.compare("ndcg_cut_5")[0]
    assert difference.mean == pytest.approx((sum(vision.values()) - sum(text.values())) / 3, abs=1e-3)


def test_within_the_right_document_no_other_page_competes(place: Path) -> None:
    write_pdf(place / "pdfs" / "colours 1.pdf", ["red: where is the blue square"])  # what [1] means as a pattern
    judgement = judge(place, ColourEncoder())
    scope = judgement.document
    assert [read_key(key) for key in scope.queries] == [
        "q1@colours [1].pdf", "q2@colours [1].pdf", "q2@ports.pdf", "q3@ports.pdf"
    ]  # fmt: skip
    for mode, run in scope.runs.items():
        for key, pages in run.items():
            assert {page.split("#")[0] for page in pages} <= {key.split("@")[1]}, (mode, key)
    assert found(scope, "vision")["q2@ports.pdf"] == 1
    assert scope.qrels["q2@ports.pdf"] == {"ports.pdf#2": 1}
    assert scope.chance["q3@ports.pdf"]["recip_rank_10"] == pytest.approx((1 + 1 / 2 + 1 / 3) / 3)


def test_every_figure_can_be_computed_again_from_the_kept_files(place: Path) -> None:
    judgement = judge(place, ColourEncoder())
    pytrec_eval = pytest.importorskip("pytrec_eval")
    for scope in (judgement.corpus, judgement.document):
        with (judgement.kept / f"{scope.name}.qrels").open() as file:
            qrels = pytrec_eval.parse_qrel(file)
        evaluator = pytrec_eval.RelevanceEvaluator(qrels, {"ndcg_cut.5,10", "recall.5,10", "recip_rank"})
        for mode in judgement.modes:
            with (judgement.kept / f"{scope.name}.{mode}.run").open() as file:
                scores = evaluator.evaluate(pytrec_eval.parse_run(file))
            for measure in MEASURES:
                name = measure.removesuffix("_10") if measure.startswith("recip") else measure  # 6 pages: no cut
                values = [scores.get(query, {}).get(name, 0.0) for query in qrels]
                assert scope.estimate(mode, measure).mean == pytest.approx(np.mean(values), abs=1e-12)


def test_what_cannot_be_judged_is_said_and_what_is_not_there_is_missed(place: Path) -> None:
    (place / "pdfs" / "broken.pdf").write_bytes(b"%PDF-")
    queries = [*QUERIES, {"_id": "q8", "text": "unjudged"}, {"_id": "q9", "text": "harbour"}]
    judgement = judge(
        write_questions(place, queries, QRELS + "q9\tgone.pdf#4\t1\nq9\tports.pdf#77\t1\nqX\tports.pdf#1\t1\n")
    )
    assert list(judgement.corpus.queries) == ["q1", "q2", "q3", "q9"]
    assert found(judgement.corpus, "text")["q9"] == 0
    assert judgement.corpus.chance["q9"]["recall_5"] == 0
    assert found(judgement.document, "text")["q9@gone.pdf"] == 0
    assert judgement.notes[:3] == [
        "1 queries without a right page are left out: q8",
        "1 judged queries are not among the questions: qX",
        "2 right pages are not in the collection and count as missed: gone.pdf#4, ports.pdf#77",
    ]
    assert judgement.notes[3].startswith("broken.pdf could not be read")


def test_a_page_may_be_named_by_its_bare_file_name_or_by_an_equal_file(place: Path) -> None:
    (place / "pdfs" / "deep").mkdir()
    shutil.move(place / "pdfs" / "ports.pdf", place / "pdfs" / "deep" / "ports.pdf")
    shutil.copy(place / "pdfs" / "deep" / "ports.pdf", place / "pdfs" / "another.pdf")
    judgement = judge(place)
    assert judgement.notes == []
    assert found(judgement.corpus, "text")["q3"] == 1
    assert judgement.corpus.qrels["q3"] == {"another.pdf#1": 1}


def test_passages_are_judged_by_themselves(place: Path) -> None:
    write_pdf(place / "pdfs" / "said.pdf", ["a scarlet curtain", "an azure pool"])
    queries = [{"_id": "q1", "text": "red"}, {"_id": "q2", "text": "what is blue"}]
    write_questions(place, queries, "q1\tsaid.pdf#1\t1\nq2\tsaid.pdf#2\t1\n")
    judgement = judge(place, ColourEncoder(), ["text", "passages"])
    assert judgement.modes == ["text", "passages"]
    assert found(judgement.corpus, "text") == {"q1": 0, "q2": 0}
    assert found(judgement.corpus, "passages") == {"q1": 1, "q2": 1}
    with pytest.raises(ConfigError, match="the modes passages need a model"):
        judge(place, None, ["passages"])


# -- the cache --------------------------------------------------------------------------------------------------------


def test_a_second_run_reads_no_page_again(place: Path) -> None:
    first, again = ColourEncoder(), ColourEncoder()
    kept = judge(place, first).kept
    assert judge(place, again).kept == kept
    assert (first.num_pages, again.num_pages) == (6, 0)


def test_a_changed_file_is_seen_also_where_size_and_time_are_as_before(place: Path) -> None:
    path = place / "pdfs" / "ports.pdf"
    os.utime(path, (10**9, 10**9))
    before, size = judge(place), path.stat().st_size
    write_pdf(path, ["the hotspur timebrier", "blue: harbour", "red: harbour"])
    path.write_bytes(path.read_bytes().ljust(size)[:size])
    os.utime(path, (10**9, 10**9))
    after = judge(place)
    assert (path.stat().st_size, path.stat().st_mtime, after.kept) == (size, 10**9, before.kept)
    assert found(before.corpus, "text")["q3"] == 1
    assert found(after.corpus, "text")["q3"] == 0


def test_a_file_that_could_not_be_read_is_tried_again(place: Path) -> None:
    path = place / "pdfs" / "ports.pdf"
    whole = path.read_bytes()
    path.write_bytes(b"%PDF-".ljust(len(whole)))
    os.utime(path, (10**9, 10**9))
    assert found(judge(place).corpus, "text")["q3"] == 0
    path.write_bytes(whole)
    os.utime(path, (10**9, 10**9))
    assert found(judge(place).corpus, "text")["q3"] == 1


def test_files_that_are_gone_leave_and_new_ones_come(place: Path) -> None:
    judge(place)
    for path in (place / "pdfs").iterdir():  # so many that `moca index` would take it for an accident
        path.unlink()
    write_pdf(place / "pdfs" / "new.pdf", ["a harbour timetable"])
    judgement = judge(place)
    assert (judgement.num_documents, judgement.num_pages) == (1, 1)
    assert found(judgement.corpus, "text")["q3"] == 0


def test_another_model_has_a_collection_of_its_own(place: Path) -> None:
    encoders = [ColourEncoder("1"), ColourEncoder("2")]
    places = {judge(place, encoder).kept for encoder in encoders} | {judge(place).kept}
    assert len(places) == 3
    assert [encoder.num_pages for encoder in encoders] == [6, 6]


# -- models that tell nothing apart -----------------------------------------------------------------------------------


class Broken(ColourEncoder):
    """Spoils the embeddings of pages, queries or both."""

    def __init__(self, what: str, fault: str) -> None:
        super().__init__(f"{what} {fault}")
        self.what, self.fault = what, fault

    def encode_queries(self, queries: Sequence[Query]) -> Floats:
        rows = super().encode_queries(queries)
        return np.stack([self._spoil(row) for row in rows]) if self.what == "queries" else rows

    def encode_pages(self, images: Iterable[Pixels]) -> Iterator[Floats]:
        rows = super().encode_pages(images)
        return map(self._spoil, rows) if self.what == "pages" else rows

    def _spoil(self, row: Floats) -> Floats:
        if self.fault == "equal":
            return np.full_like(row, 0.5)
        return row * np.float32(np.nan if self.fault == "not finite" else 1.5)


@pytest.mark.parametrize("what", ["pages", "queries"])
@pytest.mark.parametrize("fault", ["equal", "not finite", "length"])
def test_a_model_that_tells_nothing_apart_is_refused(place: Path, what: str, fault: str) -> None:
    for _ in range(2):  # also where the collection is there already
        with pytest.raises(ModelError, match=rf"colours, {what}: .*{fault}"):
            judge(place, Broken(what, fault), ["vision"])


def test_one_question_asked_twice_is_no_constant_model(place: Path) -> None:
    twice = [QUERIES[0], {"_id": "q2", "text": QUERIES[0]["text"]}]
    assert found(judge(write_questions(place, twice), ColourEncoder(), ["vision"]).corpus, "vision")["q1"] > 0


def test_looking_needs_a_model(place: Path) -> None:
    with pytest.raises(ConfigError, match="the modes text, hybrid need a model"):
        judge(place, None, ["text", "hybrid"])


def test_a_folder_without_a_page_is_refused(place: Path) -> None:
    for path in (place / "pdfs").iterdir():
        path.unlink()
    with pytest.raises(ConfigError, match="holds no page that can be read"):
        judge(place)
