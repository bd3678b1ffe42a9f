"""The whole encoder: a folder in, unit embeddings out."""

import json
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from moca_rag.embedder import Embedder
from moca_rag.errors import ConfigError, ModelError
from moca_rag.records import Box, Encoder, Floats, PixelBudget, Pixels, Query
from moca_rag.regions import make_grid
from tests.small_model import write_small_model

TINY = PixelBudget(min_pixels=4 * 28 * 28, max_pixels=64 * 28 * 28)


@pytest.fixture(autouse=True)
def _no_network(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: Any, **__: Any) -> None:
        raise AssertionError("a test touched the network")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    monkeypatch.setattr(socket, "getaddrinfo", refuse)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_small_model(tmp_path_factory.mktemp("model"))


@pytest.fixture(scope="module")
def embedder(folder: Path) -> Embedder:
    return Embedder.open(folder, device="cpu", pixels=TINY)


def page(rows: int, columns: int) -> Pixels:
    return np.random.default_rng(100 * rows + columns).integers(0, 256, (28 * rows, 28 * columns, 3), dtype=np.uint8)


PAGES = [page(rows, columns) for rows, columns in [(3, 4), (8, 8), (2, 2), (5, 7), (3, 4), (7, 5)]]


WHOLE = Box(0, 0, 1, 1)


def close(left: Floats, right: Floats) -> bool:
    return bool(np.abs(left - right).max() < 1e-6)


def test_the_card_says_what_decides_an_embedding(folder: Path) -> None:
    opened: Encoder = Embedder.open(str(folder), device="cpu")
    card = opened.card
    assert (card.name, card.dimension, card.pooling) == (str(folder), 64, "mean")
    assert (card.page_prompt, card.query_prompt) == ("Represent the given document image.", "")
    assert card.pixels == PixelBudget(256 * 784, 1024 * 784, 28)
    assert len(card.revision) == 40


def test_embeddings_are_float32_of_unit_length_and_differ(embedder: Embedder) -> None:
    queries = [Query("a"), Query("b"), Query(image=page(3, 4)), Query("a", page(3, 4)), Query("a", page(2, 5))]
    rows = np.stack([*embedder.encode_queries(queries), *embedder.encode_pages([page(3, 4)])])
    assert rows.dtype == np.float32
    assert rows.shape == (6, 64)
    assert np.abs(np.linalg.norm(rows, axis=1) - 1).max() < 1e-5
    assert (rows @ rows.T - 2 * np.eye(6)).max() < 0.9999


def test_pages_embed_the_same_alone_together_in_any_order_and_under_any_budget(folder: Path) -> None:
    alone = [next(Embedder.open(folder, device="cpu", pixels=TINY).encode_pages([image])) for image in PAGES]
    assert close(alone[0], alone[4])
    assert not close(alone[0], alone[1])
    for budget in (1, 60, 150, 10_000):
        embedder = Embedder.open(folder, device="cpu", pixels=TINY, token_budget=budget)
        assert close(np.stack(list(embedder.encode_pages(PAGES))), np.stack(alone))
        assert close(np.stack(list(embedder.encode_pages(PAGES[::-1]))), np.stack(alone[::-1]))


def test_pages_and_passages_in_one_stream_embed_as_they_do_alone(folder: Path, embedder: Embedder) -> None:
    parts = [PAGES[0], "copper prices fell", "a chart", PAGES[1], PAGES[2], "copper prices fell " * 30]
    texts = [Query(part) for part in parts if isinstance(part, str)]
    for budget in (1, 60, 10_000):
        mixed = Embedder.open(folder, device="cpu", pixels=TINY, token_budget=budget)
        rows = np.stack(list(mixed.encode_pages(parts)))
        assert close(rows[[0, 3, 4]], np.stack(list(mixed.encode_pages(PAGES[:3]))))
        assert close(rows[[1, 2, 5]], embedder.encode_queries(texts))  # this model's queries have no prompt
    with pytest.raises(ConfigError, match="an empty passage"):
        list(embedder.encode_pages([" "]))


def test_queries_embed_the_same_alone_and_together(embedder: Embedder) -> None:
    queries = [Query("which bridge?"), Query(image=PAGES[1]), Query("copper " * 300), Query("a chart", PAGES[3])]
    together = embedder.encode_queries(queries)
    for query, row in zip(queries, together, strict=True):
        assert close(embedder.encode_queries([query])[0], row)


def test_a_picture_asked_with_the_page_prompt_is_the_page(embedder: Embedder) -> None:
    asked = embedder.encode_queries([Query(embedder.card.page_prompt, PAGES[0])])[0]
    assert close(asked, next(embedder.encode_pages([PAGES[0]])))


def test_pages_are_read_lazily(folder: Path) -> None:
    read: list[int] = []

    def images() -> Iterator[Pixels]:
        for index in range(50):
            read.append(index)
            yield page(4, 4)

    embeddings = Embedder.open(folder, device="cpu", pixels=TINY, token_budget=100).encode_pages(images())
    assert not read
    next(embeddings)
    assert len(read) < 6


def test_no_pages_and_no_queries_give_nothing(embedder: Embedder) -> None:
    assert list(embedder.encode_pages([])) == []
    assert embedder.encode_queries([]).shape == (0, 64)


def test_a_picture_of_any_size_is_resized_into_the_budget(embedder: Embedder) -> None:
    image = np.random.default_rng(0).integers(0, 256, (333, 1111, 3), dtype=np.uint8)
    row = embedder.encode_queries([Query(image=image)])[0]
    assert np.isclose(np.linalg.norm(row), 1)
    assert close(next(embedder.encode_pages([image])), next(embedder.encode_pages([image])))


@pytest.mark.parametrize(
    ("query", "message"),
    [
        (Query(), "empty query"),
        (Query("  \n"), "empty query"),
        (Query(image=np.zeros((56, 56), np.uint8)), "uint8 RGB"),
        (Query(image=np.zeros((0, 56, 3), np.uint8)), "56 x 0"),
    ],
)
def test_a_query_that_cannot_be_embedded_is_refused(embedder: Embedder, query: Query, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        embedder.encode_queries([query])


def test_prompts_and_pixels_that_live_with_the_model_are_used(folder: Path, tmp_path: Path, embedder: Embedder) -> None:
    write_small_model(tmp_path)
    settings = {"page_prompt": "", "query_prompt": "Find: ", "min_pixels": 4 * 784, "max_pixels": 64 * 784}
    (tmp_path / "moca.json").write_text(json.dumps(settings))
    other = Embedder.open(tmp_path, device="cpu")
    assert (other.card.page_prompt, other.card.query_prompt, other.card.pixels) == ("", "Find: ", TINY)
    assert other.card.revision != embedder.card.revision
    assert close(other.encode_queries([Query("x")]), embedder.encode_queries([Query("Find: x")]))
    assert close(next(other.encode_pages([PAGES[0]])), embedder.encode_queries([Query(image=PAGES[0])])[0])


def test_both_layouts_give_equal_embeddings(tmp_path: Path, embedder: Embedder) -> None:
    old = Embedder.open(write_small_model(tmp_path, layout="old", shards=2), device="cpu", pixels=TINY)
    assert close(np.stack(list(old.encode_pages(PAGES))), np.stack(list(embedder.encode_pages(PAGES))))


@pytest.mark.parametrize("name", ["nonsense", "cuda:99", "meta:x"])
def test_a_device_that_is_not_there_is_refused_by_name(folder: Path, name: str) -> None:
    with pytest.raises(ConfigError, match=name):
        Embedder.open(folder, device=name)


@pytest.mark.parametrize("pixels", [PixelBudget(factor=14), PixelBudget(9, 3), PixelBudget(0, 3)])
def test_a_pixel_budget_that_cannot_be_used_is_refused(folder: Path, pixels: PixelBudget) -> None:
    with pytest.raises(ConfigError, match="cannot be used"):
        Embedder.open(folder, device="cpu", pixels=pixels)


def test_a_broken_folder_is_refused_in_one_line(tmp_path: Path) -> None:
    def opening_says(message: str) -> None:
        with pytest.raises(ModelError, match=message) as caught:
            Embedder.open(tmp_path, device="cpu")
        assert "\n" not in str(caught.value)

    write_small_model(tmp_path)
    weights = (tmp_path / "model.safetensors").read_bytes()
    for broken in (b"", b"garbage" * 100, weights[: len(weights) // 2]):
        (tmp_path / "model.safetensors").write_bytes(broken)
        opening_says("is no whole safetensors file")
    (tmp_path / "model.safetensors").rename(tmp_path / "pytorch_model.bin")
    opening_says("pickled")
    (tmp_path / "pytorch_model.bin").unlink()
    write_small_model(tmp_path)
    (tmp_path / "config.json").write_text("{}")
    opening_says("model type None")
    write_small_model(tmp_path)
    (tmp_path / "tokenizer.json").unlink()
    opening_says(r"no tokenizer\.json")


def test_an_embedding_that_is_not_finite_is_never_given_out(folder: Path) -> None:
    embedder = Embedder.open(folder, device="cpu", pixels=TINY)
    tower = embedder._feed.backbone.visual
    next(embedder.encode_pages([PAGES[0]]))
    tower.merger.mlp[0].weight = torch.nn.Parameter(torch.full((128, 128), torch.nan))
    with pytest.raises(ModelError, match="not finite"):
        next(embedder.encode_pages([PAGES[0]]))
    assert embedder.encode_queries([Query("text has no picture")]).shape == (1, 64)


def test_a_text_query_reads_neither_the_vision_tower_nor_the_head(folder: Path) -> None:
    embedder = Embedder.open(folder, device="cpu", pixels=TINY)
    embedder.encode_queries([Query("copper")])
    tower = embedder._feed.backbone.visual
    assert {weight.device.type for weight in tower.parameters()} == {"meta"}
    next(embedder.encode_pages([PAGES[0]]))
    assert {weight.device.type for weight in tower.parameters()} == {"cpu"}
    assert not hasattr(embedder._feed.backbone, "lm_head")


def test_a_text_question_imports_neither_transformers_nor_a_compiler(folder: Path) -> None:
    """Each would cost more than the rest of a cold start."""
    program = (
        "import sys\nfrom moca_rag.embedder import Embedder\nfrom moca_rag.records import Query\n"
        f"Embedder.open({str(folder)!r}, device='cpu').encode_queries([Query('copper')])\n"
        "print([name for name in ('transformers', 'torch._dynamo', 'torchvision') if name in sys.modules])"
    )
    found = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert found.stdout.strip() == "[]"


def test_a_region_that_is_the_whole_page_is_the_page(embedder: Embedder) -> None:
    pages = np.stack(list(embedder.encode_pages(PAGES)))
    regions = list(embedder.encode_regions((image, [WHOLE]) for image in PAGES))
    assert close(np.concatenate(regions), pages)


def test_a_region_sees_its_own_part_of_the_page_most(embedder: Embedder) -> None:
    """Its embedding stays near where the page changes elsewhere, and moves where the page changes inside."""
    image = page(8, 8)
    below = image.copy()
    below[112:] = 255 - below[112:]
    boxes = [Box(0, 0, 1, 0.5), Box(0, 0.5, 1, 1)]
    before, after = embedder.encode_regions([(image, boxes), (below, boxes)])
    assert before[0] @ after[0] > before[1] @ after[1] + 0.01


def test_regions_of_pages_of_many_sizes_come_in_order_with_as_many_rows_as_boxes(embedder: Embedder) -> None:
    numbers = [1, 4, 2, 0, 6, 3]
    wanted = [(image, make_grid(1, number)) for image, number in zip(PAGES, numbers, strict=True)]
    together = list(embedder.encode_regions(wanted))
    assert [len(rows) for rows in together] == numbers
    for pair, rows in zip(wanted, together, strict=True):
        assert np.abs(rows - next(embedder.encode_regions([pair]))).max(initial=0) < 1e-6
        assert np.allclose(np.linalg.norm(rows, axis=1), 1)


@pytest.mark.parametrize("query", [Query("price of copper"), Query(image=PAGES[3]), Query("copper", PAGES[1])])
def test_the_shares_of_a_page_add_up_to_its_cosine(embedder: Embedder, query: Query) -> None:
    for image in PAGES:
        cosine = float(embedder.encode_queries([query])[0] @ next(embedder.encode_pages([image])))
        told = embedder.explain(query, image)
        assert told.shares.shape == (image.shape[0] // 28, image.shape[1] // 28)
        assert abs(told.score - cosine) < 1e-5
        assert abs(told.shares.sum() + told.remainder - cosine) < 1e-5


def test_a_shorter_embedding_is_the_longer_ones_beginning_at_unit_length(folder: Path, embedder: Embedder) -> None:
    short = Embedder.open(folder, device="cpu", pixels=TINY, dimension=24)
    assert short.card.dimension == 24
    for whole, cut in (
        (embedder.encode_queries([Query("copper")])[0], short.encode_queries([Query("copper")])[0]),
        (next(embedder.encode_pages(PAGES)), next(short.encode_pages(PAGES))),
    ):
        assert close(cut, whole[:24] / np.linalg.norm(whole[:24]))
    told = short.explain(Query("copper"), PAGES[0])
    cosine = float(short.encode_queries([Query("copper")])[0] @ next(short.encode_pages(PAGES)))
    assert abs(told.score - cosine) < 1e-5


@pytest.mark.parametrize(("precision", "size"), [("float32", 64), ("float16", 64), ("int8", 64), ("binary", 8)])
def test_embeddings_come_in_the_precision_asked_for(embedder: Embedder, precision: Any, size: int) -> None:
    query = embedder.encode_queries([Query("copper")], precision=precision)[0]
    region = next(embedder.encode_regions([(PAGES[0], [WHOLE])], precision=precision))[0]
    image = next(embedder.encode_pages(PAGES, precision=precision))
    assert query.dtype == image.dtype == np.dtype({"binary": "uint8"}.get(precision, precision))
    assert query.shape == image.shape == (size,)
    assert np.array_equal(image, region) or precision == "float32"


def test_a_budget_whose_pages_have_no_room_is_refused_before_the_model_is_used(folder: Path) -> None:
    with pytest.raises(ConfigError, match="over the model's limit of 2,048"):
        Embedder.open(folder, device="cpu", pixels=PixelBudget(max_pixels=2100 * 784))


@pytest.fixture(scope="module")
def parted(tmp_path_factory: pytest.TempPathFactory) -> Embedder:
    """The same model, a page of which has four regions."""
    folder = write_small_model(tmp_path_factory.mktemp("parted"))
    (folder / "moca.json").write_text(json.dumps({"regions": 4}))
    return Embedder.open(folder, device="cpu", pixels=TINY)


def test_a_page_has_an_embedding_of_each_of_its_regions_and_other_parts_have_one(
    embedder: Embedder, parted: Embedder
) -> None:
    assert (embedder.card.regions, parted.card.regions) == (1, 4)
    pages = list(parted.encode_pages([PAGES[0], "copper", PAGES[1]]))
    assert [rows.shape for rows in pages] == [(4, 64), (64,), (4, 64)]
    assert np.allclose(np.linalg.norm(pages[0], axis=1), 1, atol=1e-6)
    assert close(pages[1], embedder.encode_queries([Query("copper")])[0])
    assert close(parted.encode_queries([Query(image=PAGES[0])])[0], embedder.encode_queries([Query(image=PAGES[0])])[0])
    [[whole]] = parted.encode_regions([(PAGES[0], [WHOLE])])
    assert close(whole, next(embedder.encode_pages([PAGES[0]])))


def test_a_region_moves_most_where_its_own_part_of_the_page_does(parted: Embedder) -> None:
    image = page(8, 8)
    below = image.copy()
    below[168:] = 255 - below[168:]
    before, after = parted.encode_pages([image, below])
    assert np.vecdot(before, after).argmin() == 3


def test_the_shares_of_a_page_add_up_to_its_nearest_regions_cosine(parted: Embedder) -> None:
    query = Query("price of copper")
    best = float((next(parted.encode_pages([PAGES[1]])) @ parted.encode_queries([query])[0]).max())
    told = parted.explain(query, PAGES[1])
    assert told.score == pytest.approx(best, abs=1e-5)
    assert told.shares.sum() + told.remainder == pytest.approx(best, abs=1e-5)
