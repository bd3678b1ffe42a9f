"""Hard negatives: high ranks for a query, clearly below its answer, never an answer."""

import json
import shutil
from collections.abc import Iterable, Iterator
from pathlib import Path

import numpy as np
import pytest
from moca_rag.cli.main import run as run_command
from moca_rag.train.mining import ModelEncoder, mine_negatives
from moca_rag.train.pools import Document, RowPool, find_best
from moca_rag.train.rows import IMAGE_SLOT, PairRow, RowError, Side, decode_image
from moca_rag.train.settings import MiningReport, MiningSettings, Source
from moca_rag.train.sources import open_pairs

from moca_rag.collection import Collection
from moca_rag.embedder import Embedder
from moca_rag.errors import ConfigError
from moca_rag.fingerprint import Fingerprint
from moca_rag.records import Floats, Query
from moca_rag.regions import make_grid
from tests.makers import PAGE_WORDS, make_pdf

from .conftest import png


class AngleEncoder:
    """A text is its angle in degrees, after a word: cosines can be predicted."""

    def __init__(self) -> None:
        self.num_encoded = 0

    def prepare(self, side: Side) -> float:
        word, _, angle = side.text.partition(" ")
        if word == "broken":
            raise RowError("it is broken")
        return float(np.deg2rad(float(angle)))

    def encode(self, prepared: Iterable[float]) -> Iterator[Floats]:
        for angle in prepared:
            self.num_encoded += 1
            yield np.array([[np.cos(angle), np.sin(angle)]], np.float32)


def write_rows(path: Path, *pairs: tuple[str, str]) -> Source:
    lines = [json.dumps({"query_text": query, "positive_text": positive}) for query, positive in pairs]
    path.write_text("\n".join(lines))
    return Source(str(path))


def read_rows(folder: Path) -> list[PairRow]:
    return list(open_pairs(Source(str(folder / "cl.parquet"), negatives=99)))


def mined(rows: Source, out: Path, **settings: float) -> tuple[list[list[str]], MiningReport]:
    report = mine_negatives(rows, out, AngleEncoder(), MiningSettings(**settings))  # type: ignore[arg-type]
    return [[side.text for side in row.negatives] for row in read_rows(out)], report


SPREAD = [("q 0", "d 10"), ("q 90", "d 15"), ("q 180", "d 30"), ("q 200", "d 60"), ("q 300", "d 120")]


def test_negatives_are_the_best_ranks_below_the_margin(tmp_path: Path) -> None:
    rows = write_rows(tmp_path / "rows.jsonl", *SPREAD)
    negatives, report = mined(rows, tmp_path / "out", negatives=2)
    # cos 10 - cos 15 is 0.019, within the margin; cos 10 - cos 30 is 0.119.
    assert negatives[0] == ["d 30", "d 60"]
    # The answer to q 90 stands at 15 degrees: d 120 and others come before it, and none of them counts.
    assert negatives[1] == ["d 10"]
    assert (report.rows, report.documents, report.negatives) == (5, 5, sum(map(len, negatives)))
    assert report.short == sum(len(found) < 2 for found in negatives)


def test_margin_and_depth_decide(tmp_path: Path) -> None:
    rows = write_rows(tmp_path / "rows.jsonl", *SPREAD)
    assert mined(rows, tmp_path / "close", negatives=1, margin=0.01)[0][0] == ["d 15"]
    assert mined(rows, tmp_path / "far", negatives=9, margin=0.3)[0][0] == ["d 60", "d 120"]
    assert mined(rows, tmp_path / "shallow", negatives=9, depth=3)[0][0] == ["d 30"]


def test_an_answer_to_the_same_question_is_never_a_negative(tmp_path: Path) -> None:
    pairs = [("q 0", "d 10"), ("q 0", "d 40"), ("q 0", "d 70"), ("q 1", "d 50"), ("d 50", "d 45")]
    negatives, report = mined(write_rows(tmp_path / "rows.jsonl", *pairs), tmp_path / "out", margin=0.0)
    assert negatives[0] == ["d 45", "d 50"]
    assert "d 50" not in negatives[4]  # the question's own text
    assert report.documents == 5


def test_equal_documents_are_embedded_once_and_counted_once(tmp_path: Path) -> None:
    rows = write_rows(tmp_path / "rows.jsonl", ("q 0", "d 10"), ("q 5", "d 10"), ("q 0", "d 80"))
    encoder = AngleEncoder()
    report = mine_negatives(rows, tmp_path / "out", encoder)
    assert encoder.num_encoded == 4
    assert report.documents == 2


def test_rows_that_cannot_be_read_are_left_out(tmp_path: Path) -> None:
    rows = write_rows(tmp_path / "rows.jsonl", ("q 0", "d 10"), ("q 9", "broken 1"), ("q 0", "d 80"))
    negatives, report = mined(rows, tmp_path / "out")
    assert (report.rows, report.skipped, len(negatives)) == (2, 1, 2)
    assert not any("broken" in text for texts in negatives for text in texts)
    with pytest.raises(ConfigError, match="none of the rows can be read"):
        mine_negatives(write_rows(tmp_path / "bad.jsonl", ("q 0", "broken 2")), tmp_path / "none", AngleEncoder())
    assert not (tmp_path / "none").exists()


def test_equal_cosines_keep_the_order_of_the_rows() -> None:
    scores = np.array([0.5, 0.2, 0.5, 0.9, 0.5], np.float32)
    assert find_best(scores, 3).tolist() == [3, 0, 2]
    assert find_best(scores, 9).tolist() == [3, 0, 2, 4, 1]


def test_what_cannot_be_used_is_refused(tmp_path: Path) -> None:
    rows = write_rows(tmp_path / "rows.jsonl", *SPREAD)
    for settings, complaint in (
        (MiningSettings(negatives=0), "negatives is 0"),
        (MiningSettings(depth=-1), "depth is -1"),
        (MiningSettings(margin=float("nan")), "margin is nan"),
    ):
        with pytest.raises(ConfigError, match=complaint):
            mine_negatives(rows, tmp_path / "out", AngleEncoder(), settings)
    with pytest.raises(ConfigError, match="is there already"):
        mine_negatives(rows, tmp_path, AngleEncoder())


def test_a_model_mines_pages_and_texts(model: Path, cl_rows: Path, tmp_path: Path) -> None:
    """The chosen are those of a plain loop, rows and pictures come back whole, and equal runs give equal files."""
    report = mine_negatives(Source(str(cl_rows)), tmp_path / "one", ModelEncoder(str(model)))
    mine_negatives(Source(str(cl_rows)), tmp_path / "two", ModelEncoder(str(model)))
    for name in ("cl.parquet", "images.zip"):
        assert (tmp_path / "one" / name).read_bytes() == (tmp_path / "two" / name).read_bytes()
    before = list(open_pairs(Source(str(cl_rows), negatives=0)))
    after = read_rows(tmp_path / "one")
    bare = [(row.task, row.query, row.positive) for row in after]
    assert bare == [(row.task, row.query, row.positive) for row in before]
    encoder = ModelEncoder(str(model))
    documents = list(dict.fromkeys(row.positive for row in before))
    vectors = dict(zip(documents, (rows[0] for rows in encoder.encode(map(encoder.prepare, documents))), strict=True))
    for row in after:
        [[asked]] = encoder.encode([encoder.prepare(row.asked)])
        limit = asked @ vectors[row.positive] - 0.05
        ranked = sorted(documents, key=lambda side: -float(asked @ vectors[side]))
        assert list(row.negatives) == [side for side in ranked if asked @ vectors[side] <= limit][:4]
    assert report.negatives == sum(len(row.negatives) for row in after) > 0
    assert any(side.images for row in after for side in row.negatives)


def give_regions(model: Path, folder: Path, regions: int) -> Path:
    """A copy of a model whose pages have so many regions."""
    shutil.copytree(model, folder)
    settings = json.loads((folder / "moca.json").read_text())
    (folder / "moca.json").write_text(json.dumps(settings | {"regions": regions}))
    return folder


@pytest.mark.parametrize("regions", [1, 3])
def test_sides_are_read_as_search_reads_them(regions: int, model: Path, tmp_path: Path) -> None:
    model = give_regions(model, tmp_path / "model", regions)
    encoder, embedder = ModelEncoder(str(model)), Embedder.open(model, device="cpu")
    page = Side(f"{IMAGE_SLOT}\nRepresent the given document image.", (png(3, 3, 1),))
    picture = decode_image(page.images[0], embedder.card.pixels)
    [text], rows = encoder.encode(map(encoder.prepare, [Side("copper"), page]))
    assert np.abs(text - embedder.encode_queries([Query("copper")])[0]).max() < 1e-5
    [whole] = embedder.encode_regions([(picture, make_grid(1, 1))])
    assert np.abs(rows[:1] - whole).max() < 1e-5
    assert np.abs(rows[-regions:] - next(embedder.encode_pages([picture]))).max() < 1e-5
    assert len(rows) == (1 if regions == 1 else 1 + regions)


def test_the_command_says_what_it_wrote(
    model: Path, cl_rows: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    command = ["data", "mine", str(cl_rows), str(tmp_path / "out"), "--model", str(model)]
    assert run_command([*command, "--negatives", "2", "--json"]) == 0
    report = json.loads(capsys.readouterr().out)
    assert (report["rows"], report["folder"]) == (24, str(tmp_path / "out"))
    assert report["size"] == sum(path.stat().st_size for path in (tmp_path / "out").iterdir())
    assert run_command(command) == 2
    assert "is there already" in capsys.readouterr().err
    command[3] = str(tmp_path / "again")
    assert run_command(command) == 0
    said = capsys.readouterr().out
    assert f"{tmp_path / 'again'}: 24 pairs, " in said


@pytest.mark.parametrize("regions", [1, 3])
def test_a_collection_is_mined_by_its_own_model(
    regions: int, model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Pages of the PDFs that the rows came from: never the answer itself, and pictures as the rows have them."""
    folder, model = tmp_path / "papers", give_regions(model, tmp_path / "model", regions)
    for number in range(4):
        make_pdf(folder / f"{number}.pdf", [PAGE_WORDS[number], f"{PAGE_WORDS[number + 4]} Yes."])
    rows, place, out = tmp_path / "rows", tmp_path / "collection", tmp_path / "out"
    assert run_command(["data", "from-pdfs", str(folder), str(rows), "--stage", "cl"]) == 0
    assert run_command(["index", str(folder), "--collection", str(place), "--model", str(model)]) == 0
    capsys.readouterr()
    command = ["data", "mine", str(rows / "cl.parquet"), str(out), "--collection", str(place), "--json"]
    assert run_command([*command, "--margin", "0", "--negatives", "3"]) == 0
    report = json.loads(capsys.readouterr().out)
    assert (report["rows"], report["documents"]) == (6, 8)
    after = read_rows(out)
    assert sum(len(row.negatives) for row in after) == report["negatives"] > 0
    encoder = ModelEncoder(str(model))
    for row in after:
        sides = [row.asked, row.positive, *row.negatives]
        [asked], *found = (rows[-regions:] for rows in encoder.encode(map(encoder.prepare, sides)))
        answer, *scores = (float((rows @ asked).max()) for rows in found)
        assert row.positive not in row.negatives
        assert all(score <= answer + 1e-3 for score in scores)  # the collection keeps float16
        assert scores == pytest.approx(sorted(scores, reverse=True), abs=1e-3)
    (model / "moca.json").write_text("{}")
    command[3] = str(tmp_path / "again")
    assert run_command(command) == 1
    assert "was made with other settings" in capsys.readouterr().err


def test_either_a_model_or_a_collection_is_named(
    cl_rows: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for more in ([], ["--model", "./model", "--collection", "./collection"]):
        assert run_command(["data", "mine", str(cl_rows), str(tmp_path / "out"), *more]) == 2
        assert "give either --model" in capsys.readouterr().err
    with Collection.writing(tmp_path / "words", Fingerprint("text", "pymupdf", "1")):
        pass
    command = ["data", "mine", str(cl_rows), str(tmp_path / "out"), "--collection", str(tmp_path / "words")]
    assert run_command(command) == 2
    assert "is a text collection" in capsys.readouterr().err


def test_a_pool_ranks_documents_by_their_best_region() -> None:
    angles = [[0, 90], [30], [10, 200, 80]]
    regions = [np.array([[np.cos(a), np.sin(a)] for a in np.deg2rad(each)], np.float32) for each in angles]
    pool = RowPool([Document(number, str(number), []) for number in range(3)], regions)
    [(numbers, scores)] = pool.rank(np.array([[0, 1]], np.float32), 3)
    assert numbers.tolist() == [0, 2, 1]
    assert scores == pytest.approx([1, np.sin(np.deg2rad(80)), 0.5], abs=1e-6)


def test_an_answers_own_best_region_sets_the_limit(tmp_path: Path) -> None:
    class Parts(AngleEncoder):
        """Of a document the whole is far off, and one of its two regions is where it says."""

        def encode(self, prepared: Iterable[float]) -> Iterator[Floats]:
            for angle in prepared:
                every = np.array([angle, np.pi, angle])
                yield np.stack([np.cos(every), np.sin(every)], axis=1).astype(np.float32)

    rows = write_rows(tmp_path / "rows.jsonl", *SPREAD)
    mine_negatives(rows, tmp_path / "parts", Parts(), MiningSettings(negatives=2))
    expected, _ = mined(rows, tmp_path / "out", negatives=2)
    assert [side.text for side in read_rows(tmp_path / "parts")[0].negatives] == expected[0] == ["d 30", "d 60"]
