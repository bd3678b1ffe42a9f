"""Turns a question into hits: its rankings, fused, with snippets and boxes."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from .catalog import Catalog, FileRow
from .errors import ConfigError
from .fingerprint import Fingerprint
from .fusion import DEPTH, fuse
from .ranking import allowed_files, find_marks, rank_text, text_pages
from .records import Floats, FusionWeights, Hit, Mode, ModelCard, Query
from .snippets import cut_snippet, match_boxes
from .stores import LocalStore, StorePart
from .terms import match_expression, sign_pairs
from .textlayer import clean_word, unpack_words

RANKINGS: Mapping[Mode, tuple[str, ...]] = {
    "text": ("text",),
    "vision": ("vision",),
    "passages": ("passages",),
    "hybrid": ("vision", "passages", "text"),
}
SPREAD = 4  # vectors asked for each page that is wanted: the best passages or regions are often of the same pages


@dataclass(frozen=True, slots=True)
class Request:
    """One search, checked: what is asked, of which pages, by which rankings."""

    query: Query
    top_k: int = 10
    mode: Mode = "text"
    where: Mapping[str, str] | None = None
    within: str | None = None

    @property
    def expression(self) -> str | None:
        """What the full-text index is asked; None where no ranking by words takes part."""
        return match_expression(self.query.text) if "text" in RANKINGS[self.mode] else None


def check_request(request: Request, fingerprint: Fingerprint) -> Request:
    """The request with the rankings that can answer it, in a collection of this kind. Raises ConfigError where none can."""
    query, mode, collection_mode = request.query, request.mode, fingerprint.mode
    if request.top_k < 1:
        raise ConfigError(f"-k {request.top_k}: ask for at least one hit")
    if query.image is not None and mode == "text":
        raise ConfigError(
            "a picture cannot be searched by words: use --mode vision or hybrid, in a collection made with "
            "`moca index --rebuild --model FOLDER_OR_HUB_ID`"
        )
    if collection_mode != "hybrid" and mode != collection_mode:
        raise ConfigError(
            f"--mode {mode}: this is a {collection_mode} collection; make it anew with "
            "`moca index --rebuild --model FOLDER_OR_HUB_ID` to search in every mode"
        )
    if mode == "passages" and not fingerprint.passages:
        raise ConfigError(
            "--mode passages: this collection has none; make it anew with `moca index --rebuild --set passages=true`"
        )
    if query.image is not None and match_expression(query.text) is None:
        if mode == "passages":
            raise ConfigError(
                "a picture alone is not looked for in passages: add words, or use --mode vision or hybrid"
            )
        return replace(request, mode="vision")
    if match_expression(query.text) is None:
        asked = "is empty" if not query.text.strip() else f"{query.text!r} has no word in it"
        raise ConfigError(f"the question {asked}: ask with a word, a number or --image FILE")
    return request


def find_hits(
    catalog: Catalog,
    request: Request,
    stores: Mapping[str, LocalStore | StorePart],
    embedding: Floats | None,
    model: ModelCard | None = None,
    weights: FusionWeights | None = None,
) -> list[Hit]:
    """The best pages for a checked request.

    `stores` rank the vectors, by ranking: `vision` and, where the collection has them, `passages`. `embedding` [D] is
    needed by all modes but text. What the collection's `model` says of its weights holds where none are given.
    """
    allowed = allowed_files(catalog, request.where or {}, request.within)
    rankings = rank_pages(catalog, request, stores, embedding, allowed, model)
    shares = share_scores(catalog, rankings, model, weights, max(DEPTH, request.top_k))
    best = sorted(shares, key=lambda page_id: (-sum(shares[page_id].values()), page_id))[: request.top_k]
    return _describe(catalog, request, best, shares, allowed)


def rank_pages(
    catalog: Catalog,
    request: Request,
    stores: Mapping[str, LocalStore | StorePart],
    embedding: Floats | None,
    allowed: Mapping[int, FileRow] | None = None,
    model: ModelCard | None = None,
) -> dict[str, dict[int, float]]:
    """The scores of the best pages in each ranking that the request asks for, in a collection of this model's."""
    depth = max(DEPTH, request.top_k)
    rankings: dict[str, dict[int, float]] = {}
    for name in RANKINGS[request.mode]:
        if name in stores and embedding is not None:
            has_one = name == "vision" and (model is None or model.regions == 1)
            rankings[name] = rank_vectors(catalog, stores[name], embedding, depth, allowed, 1 if has_one else SPREAD)
    if request.expression is not None:
        rankings["text"] = rank_text(catalog, request.expression, depth, None if allowed is None else list(allowed))
    return rankings


def share_scores(
    catalog: Catalog,
    rankings: Mapping[str, Mapping[int, float]],
    model: ModelCard | None,
    weights: FusionWeights | None = None,
    depth: int = DEPTH,
) -> dict[int, dict[str, float]]:
    """What each ranking gives to each page: its own score where it ranks alone, else its share of the fused score."""
    if model is None or len(rankings) == 1:  # a text collection has one ranking
        ((name, scores),) = rankings.items()
        return {page_id: {name: score} for page_id, score in scores.items()}
    found = {page_id for scores in rankings.values() for page_id in scores}
    share = catalog.share_without_words()
    return fuse(rankings, text_pages(catalog, found), weights or model.weights, share, depth)


def rank_vectors(
    catalog: Catalog,
    store: LocalStore | StorePart,
    embedding: Floats,
    top_k: int,
    allowed: Mapping[int, FileRow] | None,
    spread: int = 1,
) -> dict[int, float]:
    """Pages by cosine, each by the best of its vectors in the store, best first; at most `top_k`.

    `spread` is how many vectors are asked for at first for each page; where they are of too few pages, more are.
    """
    vector_ids = None if allowed is None else catalog.vector_ids(list(allowed))
    asked = spread * top_k
    while True:
        ids, scores = store.search(embedding, asked, vector_ids)
        ranked: dict[int, float] = {}
        score_of = dict(zip(ids.tolist(), scores.tolist(), strict=True))
        rows = [row for row in catalog.pages_of_vectors(ids.tolist()) if allowed is None or row[2] in allowed]
        for vector_id, page_id, _ in rows:
            ranked[page_id] = max(ranked.get(page_id, -2.0), score_of[vector_id])
        if len(ranked) >= top_k or len(ids) < asked:
            best = sorted(ranked.items(), key=lambda item: (-item[1], item[0]))[:top_k]
            return dict(best)
        asked *= 4  # several vectors led to one page: look further down


def _describe(
    catalog: Catalog,
    request: Request,
    page_ids: Sequence[int],
    shares: Mapping[int, Mapping[str, float]],
    allowed: Mapping[int, FileRow] | None,
) -> list[Hit]:
    pages = catalog.pages(page_ids)
    expression = request.expression or match_expression(request.query.text)
    marks = find_marks(catalog, expression, page_ids) if expression else {}
    pairs = set(sign_pairs(clean_word(request.query.text)))
    files = allowed or first_files(catalog, [page.document_id for page in pages.values()])
    hits: list[Hit] = []
    for page_id in page_ids:
        page = pages[page_id]
        file = files[page.document_id]
        words = unpack_words(page.words)
        matches = match_boxes(words, marks.get(page_id, ()), pairs)
        hits.append(
            Hit(
                rank=len(hits) + 1,
                score=sum(shares[page_id].values()),
                document=file.name,
                page=page.number,
                path=catalog.file_path(file),
                title=page.title,
                vision=shares[page_id].get("vision"),
                passages=shares[page_id].get("passages"),
                text=shares[page_id].get("text"),
                snippet=cut_snippet(words, {index for index, _, _ in matches}),
                matches=tuple(dict.fromkeys(text for _, text, _ in matches)),
                boxes=tuple(box for _, _, box in matches),
            )
        )
    return hits


def first_files(catalog: Catalog, document_ids: Sequence[int]) -> dict[int, FileRow]:
    """For each of these documents the first of the files that show it, by name."""
    files: dict[int, FileRow] = {}
    for file in catalog.files(document_ids=document_ids):
        files.setdefault(file.document_id, file)
    return files
