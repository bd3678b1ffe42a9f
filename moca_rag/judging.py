"""Asks every question of a judged folder in every mode; the folder's documents are indexed first, or brought up to date."""

import glob
import hashlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import numpy as np

from .catalog import FileRow
from .collection import Collection, is_collection
from .errors import ConfigError
from .fingerprint import Fingerprint
from .fusion import DEPTH
from .judged import JudgedFolder, JudgedQuery, list_names, make_key, read_key, write_qrels, write_run
from .metrics import Run, check_embeddings, first_pages, load_trec, random_scores, score_run
from .progress import Reporter
from .records import CollectionMode, Encoder, Explanation, Floats, FusionWeights, Mode, ModelCard, Part, Pixels, Query
from .render import RENDERER, renderer_version
from .scopes import Judgement, Scope, Scores
from .search import Request, check_request, find_hits, first_files

MODES: tuple[Mode, ...] = ("text", "vision", "passages", "hybrid")
CHECKED_VECTORS = 4096


class IndexFunction(Protocol):
    """What brings a collection up to date: `moca_rag.index_documents`, handed in because it is a program's."""

    def __call__(
        self,
        paths: Iterable[str | Path],
        collection: str | Path,
        encoder: Encoder | None = None,
        *,
        retry_failed: bool,
        reporter: Reporter | None,
    ) -> Any:
        """See `moca_rag.index_documents`."""
        ...


def judge_folder(
    judged: JudgedFolder,
    index: IndexFunction,
    encoder: Encoder | None,
    modes: Sequence[Mode],
    cache: Path,
    reporter: Reporter,
) -> Judgement:
    """Index a folder's documents into `cache`, ask its questions in these modes, keep the rankings and qrels there.

    The collection is found in the cache by folder, model, prompts and renderer, and brought up to date by content.
    Raises ConfigError where nothing can be judged, ModelError on a model whose embeddings tell nothing apart.
    """
    if set(modes) == {"text"}:
        encoder = None
    elif encoder is None:
        raise ConfigError(f"the modes {', '.join(modes)} need a model: name one with --model FOLDER_OR_HUB_ID")
    with open_judged(judged, index, encoder, cache, reporter) as opened:
        collection, asked = opened.collection, opened.asked
        counts = collection.catalog.count()
        scopes = [
            _judge_scope(collection, name, part, modes, opened.vectors, reporter)
            for name, part in (("corpus", asked), ("document", _split_by_document(asked)))
        ]
        card, passages = collection.fingerprint.model, collection.fingerprint.passages
    kept = opened.kept
    for scope in scopes:
        write_qrels(kept / f"{scope.name}.qrels", scope.qrels)
        for mode, run in scope.runs.items():
            write_run(kept / f"{scope.name}.{mode}.run", run, mode)
    weights = {} if card is None else _list_weights(card.weights, passages=passages)
    sizes = (counts["documents"], counts["pages"])
    model = None if card is None else card.name
    return Judgement(judged.path, kept, model, *sizes, scopes[0], scopes[1], opened.notes, weights)


class Opened(NamedTuple):
    """A judged folder's collection, open; its questions, each with its embedding, and where all of it is kept."""

    collection: Collection
    kept: Path
    asked: list["Asked"]
    vectors: dict[str, Floats]
    notes: list[str]


@contextmanager
def open_judged(
    judged: JudgedFolder,
    index: IndexFunction,
    encoder: Encoder | None,
    cache: Path,
    reporter: Reporter,
) -> Iterator[Opened]:
    """The folder's collection in `cache`, brought up to date, and its questions; errors are those of `judge_folder`."""
    load_trec()  # before an hour of work, not after it
    if encoder is not None:
        encoder = CheckedEncoder(encoder)
    kept = cache / _name_place(judged, None if encoder is None else encoder.card)
    _forget_changed(kept / "collection")
    index([judged.pdfs], kept / "collection", encoder, retry_failed=True, reporter=reporter)
    with Collection.open(kept / "collection", encoder=encoder) as collection, collection.snapshot():
        if not collection.catalog.count()["pages"]:
            raise ConfigError(f"{judged.pdfs} holds no page that can be read: put PDFs there")
        _check_vectors(collection)
        asked, notes = _list_asked(collection, judged)
        yield Opened(collection, kept, asked, _embed_queries(asked, encoder), notes)


def _list_weights(weights: FusionWeights, *, passages: bool) -> dict[str, float]:
    return {name: value for name, value in asdict(weights).items() if passages or name != "passages"}


class CheckedEncoder:
    """An encoder whose embeddings are looked at as they come: the first that is not finite or not of length 1 is refused."""

    def __init__(self, encoder: Encoder) -> None:
        self._encoder = encoder

    @property
    def card(self) -> ModelCard:
        """What decides its embeddings."""
        return self._encoder.card

    def encode_queries(self, queries: Sequence[Query]) -> Floats:
        """Unit embeddings [N, D], in order; distinct queries that come out all the same are refused too."""
        rows = self._encoder.encode_queries(queries)
        check_embeddings(rows, unit=True, name=f"{self.card.name}, queries")
        return rows

    def encode_pages(self, parts: Iterable[Part]) -> Iterator[Floats]:
        """The unit embedding or embeddings of each page image or passage, in order."""
        for row in self._encoder.encode_pages(parts):
            check_embeddings(row[None], unit=True, name=f"{self.card.name}, pages")
            yield row

    def explain(self, query: Query, image: Pixels) -> Explanation:
        """Which parts of a page image make its score for this query."""
        return self._encoder.explain(query, image)


# -- the collection ---------------------------------------------------------------------------------------------------


def _name_place(judged: JudgedFolder, card: ModelCard | None) -> str:
    """A folder name for these documents' place and all that decides an embedding: neither a model's name nor its weights."""
    model = None if card is None else replace(card, name="", weights=FusionWeights())
    mode: CollectionMode = "text" if card is None else "hybrid"
    fingerprint = Fingerprint(mode, RENDERER, renderer_version(), model=model, passages=card is not None)
    place = judged.path.resolve()
    digest = hashlib.sha256(repr((str(place), fingerprint)).encode()).hexdigest()
    return f"{make_key(place.name)}-{digest[:12]}"


def _forget_changed(path: Path) -> None:
    """Take files out of the collection that are gone, or whose bytes are others now at the same size and time."""
    if not is_collection(path):
        return
    with Collection.writing(path) as (collection, writer):
        changed = [file for file in collection.catalog.files() if _is_changed(collection, file)]
        with writer.transaction():
            writer.drop_files(changed)
            writer.sweep()


def _is_changed(collection: Collection, file: FileRow) -> bool:
    try:
        with collection.catalog.file_path(file).open("rb") as opened:
            return hashlib.file_digest(opened, "sha256").hexdigest() != file.sha256
    except OSError:
        return True


def _check_vectors(collection: Collection) -> None:
    """Refuse a collection whose pictures all have one vector; of very many, some thousands are looked at."""
    model, catalog = collection.fingerprint.model, collection.catalog
    if model is not None:
        live = np.setdiff1d(catalog.picture_rows(), catalog.dead_rows())
        rows = collection.shards().read(live[:: max(1, len(live) // CHECKED_VECTORS)])
        check_embeddings(rows, unit=True, name=f"{model.name}, pages")


# -- questions --------------------------------------------------------------------------------------------------------


class Asked(NamedTuple):
    """One question as it is put: to all pages or to one document's, their keys, and the grades of those that answer."""

    key: str
    query: JudgedQuery
    within: str | None
    pages: Mapping[str, set[str]]
    grades: dict[str, int]


def _list_asked(collection: Collection, judged: JudgedFolder) -> tuple[list[Asked], list[str]]:
    """The questions that can be judged, and notes on what is left out or counts as missed."""
    catalog = collection.catalog
    shown = first_files(catalog, [file.document_id for file in catalog.files()])
    pages = {
        make_key(file.name): {make_key(f"{file.name}#{number}") for number in catalog.page_numbers(document_id)}
        for document_id, file in shown.items()
    }
    names = {page_id: _resolve(collection, shown, page_id) for grades in judged.qrels.values() for page_id in grades}
    asked, without = [], []
    for query in judged.queries:
        grades: dict[str, int] = {}
        for page_id, grade in judged.qrels.get(query.query_id, {}).items():
            grades[names[page_id]] = max(grade, grades.get(names[page_id], grade))  # two names of one page
        if any(grade > 0 for grade in grades.values()):
            asked.append(Asked(make_key(query.query_id), query, None, pages, grades))
        else:
            without.append(query.query_id)
    if not asked:
        raise ConfigError(f"{judged.path}: no query has a right page in its qrels: do the query ids agree?")
    known = {query.query_id for query in judged.queries}
    strangers = [query_id for query_id in judged.qrels if query_id not in known]
    everywhere = set().union(*pages.values())
    missing = sorted(
        {read_key(page) for a in asked for page, grade in a.grades.items() if grade > 0 and page not in everywhere}
    )
    notes = [
        (without, "queries without a right page are left out"),
        (strangers, "judged queries are not among the questions"),
        (missing, "right pages are not in the collection and count as missed"),
    ]
    failed = [f"{failure.path} could not be read: {failure.reason}" for _, failure, _ in catalog.failures()]
    return asked, [f"{len(found)} {what}: {list_names(found)}" for found, what in notes if found] + failed


def _resolve(collection: Collection, shown: Mapping[int, FileRow], page_id: str) -> str:
    """The key under which hits name a page: a bare file name, or an equal file's, leads to it; else the id as written."""
    name, _, number = page_id.rpartition("#")
    with suppress(ConfigError):
        name = shown[collection.find_file(name).document_id].name
    return make_key(f"{name}#{int(number)}")


def _split_by_document(asked: Iterable[Asked]) -> list[Asked]:
    """Each question once for each document that answers it, put to that document alone."""
    return [
        one._replace(
            key=f"{one.key}@{name}",
            within=read_key(name),
            pages={name: one.pages.get(name, set())},
            grades={page: grade for page, grade in one.grades.items() if _document_of(page) == name},
        )
        for one in asked
        for name in dict.fromkeys(_document_of(page) for page, grade in one.grades.items() if grade > 0)
    ]


def _document_of(page: str) -> str:
    return page.rpartition("#")[0]


def _embed_queries(asked: Iterable[Asked], encoder: Encoder | None) -> dict[str, Floats]:
    """The embedding [D] of each text, each embedded once."""
    texts = list(dict.fromkeys(one.query.text for one in asked))
    if encoder is None:
        return {}
    return dict(zip(texts, encoder.encode_queries([Query(text) for text in texts]), strict=True))


def _judge_scope(
    collection: Collection,
    name: str,
    asked: Sequence[Asked],
    modes: Sequence[Mode],
    vectors: Mapping[str, Floats],
    reporter: Reporter,
) -> Scope:
    qrels = {one.key: one.grades for one in asked}
    runs: dict[Mode, Run] = {}
    scores: dict[Mode, Scores] = {}
    for mode in modes:
        task = f"{mode}, {name}"
        reporter.start(task, len(asked))
        runs[mode] = {}
        for one in asked:
            runs[mode][one.key] = _rank(collection, one, mode, vectors)
            reporter.advance(task)
        scores[mode] = score_run(qrels, runs[mode])
    chance = {one.key: random_scores(one.grades, set().union(*one.pages.values())) for one in asked}
    return Scope(name, {one.key: one.query for one in asked}, qrels, runs, scores, chance)


def _rank(collection: Collection, one: Asked, mode: Mode, vectors: Mapping[str, Floats]) -> dict[str, float]:
    """The best hundred pages as `Collection.search` ranks them, with their scores as trec_eval will order them."""
    within = None if one.within is None else glob.escape(one.within)
    request = Request(Query(one.query.text), DEPTH, mode, within=within)
    embedding = None if mode == "text" else vectors[one.query.text]
    stores = {} if mode == "text" else collection.stores()
    asked, model = check_request(request, collection.fingerprint), collection.fingerprint.model
    hits = find_hits(collection.catalog, asked, stores, embedding, model)
    scores = {make_key(f"{hit.document}#{hit.page}"): float(np.float32(hit.score)) for hit in hits}
    return first_pages(scores, DEPTH)
