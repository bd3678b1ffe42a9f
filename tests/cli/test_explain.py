from pathlib import Path

import numpy as np
import pytest
from moca_rag.cli.heatmap import ADDS, FRAME, LEGEND_HEIGHT, LEGEND_WIDTH, TAKES, draw_heat, scale_shares
from moca_rag.indexer.pipeline import index_documents
from PIL import Image

from moca_rag.records import Box, Explanation
from tests.fakes import ColourEncoder, write_pdf
from tests.faults import Moca


@pytest.fixture
def moca(tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Moca:
    """A hybrid collection of pages with a coloured square below their words, and one without words."""
    monkeypatch.setattr("moca_rag.deferred.DeferredEmbedder.of", lambda card: ColourEncoder())
    write_pdf(tmp_path / "pdfs" / "words.pdf", ["red: tariff for electricity"])
    write_pdf(tmp_path / "pdfs" / "scan.pdf", ["red:"])
    index_documents([tmp_path / "pdfs"], tmp_path / "collection", ColourEncoder())
    return Moca(capsys, tmp_path / "collection")


def explanation_of(shares: list[list[float]], remainder: float = 0.0) -> Explanation:
    grid = np.array(shares, np.float32)
    return Explanation(float(grid.sum()) + remainder, grid, remainder)


def redness(picture: Image.Image) -> np.ndarray:
    """Red above blue [H, W]: positive where the ink is warm."""
    colours = np.asarray(picture, np.float32)
    return colours[..., 0] - colours[..., 2]


def test_a_hit_is_saved_as_a_heat_map_with_its_matches_framed(moca: Moca, tmp_path: Path) -> None:
    outcome = moca("search", "red tariff", "--explain", "--save", tmp_path / "hits")
    assert (outcome.code, outcome.complaint) == (0, f"2 pages saved in {tmp_path / 'hits'}")
    for name, has_words in (("scan", False), ("words", True)):
        (path,) = (tmp_path / "hits").glob(f"0?_{name}.pdf_p1.png")
        with Image.open(path) as opened:
            picture = opened.convert("RGB")
        picture = picture.crop((0, 0, picture.width, picture.height - LEGEND_HEIGHT))
        page = redness(picture)
        height, width = page.shape
        assert page[int(0.7 * height), width // 2] > 60  # on the square
        assert abs(page[int(0.3 * height), width // 2]) <= 1  # above it there is no ink: the page is grey
        colours = {colour for _, colour in picture.getcolors(1 << 24) or []}
        assert (255, 0, 0) not in colours  # the page's own red is grey too: what is warm is heat
        assert (FRAME in colours) == has_words


def test_hits_tell_their_shares_as_json(moca: Moca) -> None:
    outcome = moca("search", "red tariff", "--mode", "text", "--explain", "--json")
    (hit,) = outcome.json["hits"]
    told = hit["explanation"]
    assert list(told) == ["score", "remainder", "rows", "columns", "shares"]
    assert np.shape(told["shares"]) == (told["rows"], told["columns"])
    assert np.sum(told["shares"]) + told["remainder"] == pytest.approx(told["score"], abs=1e-5)
    assert told["score"] == pytest.approx(1.0, abs=0.01)  # found by its words, explained by its look
    assert "explanation" not in moca("search", "red tariff", "--json").json["hits"][0]


def test_heat_maps_need_a_folder_and_a_model(moca: Moca, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    outcome = moca("search", "red", "--explain")
    assert outcome.code == 2
    assert "--save DIR" in outcome.complaint
    index_documents([tmp_path / "pdfs"], tmp_path / "text")
    outcome = Moca(capsys, tmp_path / "text")("search", "tariff", "--explain", "--json")
    assert outcome.code == 2
    assert "`moca index --rebuild --model" in outcome.complaint


def test_a_page_that_has_changed_is_saved_without_heat_and_takes_no_other_away(moca: Moca, tmp_path: Path) -> None:
    write_pdf(tmp_path / "pdfs" / "words.pdf", ["blue: tariff for gas"])
    outcome = moca("search", "red tariff", "--explain", "--save", tmp_path / "hits", "--json")
    assert outcome.code == 0
    assert "words.pdf#1 was not explained: " in outcome.complaint
    assert "has changed since it was indexed" in outcome.complaint
    explained = {hit["document"]: hit["explanation"] is not None for hit in outcome.json["hits"]}
    assert explained == {"words.pdf": False, "scan.pdf": True}
    assert len(list((tmp_path / "hits").iterdir())) == 2


def test_a_page_that_is_gone_is_complained_of_once(moca: Moca, tmp_path: Path) -> None:
    (tmp_path / "pdfs" / "words.pdf").unlink()
    outcome = moca("search", "red tariff", "--explain", "--save", tmp_path / "hits", "--json")
    assert "words.pdf#1 was not saved: " in outcome.complaint
    (path,) = (tmp_path / "hits").iterdir()
    assert path.name.endswith("_scan.pdf_p1.png")


def test_what_every_token_adds_is_no_heat() -> None:
    assert not scale_shares(np.full((3, 4), 0.01, np.float32)).any()
    assert not scale_shares(np.zeros((3, 4), np.float32)).any()
    heat = scale_shares(np.array([[0.5, 0.5, 0.5, 0.9, -0.2]], np.float32))
    assert heat[0, :3].tolist() == [0, 0, 0]
    assert heat[0, 3] > 0 > heat[0, 4]
    cold = scale_shares(np.array([[-0.5, -0.5, -0.5, -0.9, 0.2]], np.float32))
    assert np.allclose(cold, -heat)


def test_one_great_share_does_not_hide_the_others() -> None:
    shares = np.zeros((20, 20), np.float32)
    shares[3, :8] = 1.0
    shares[9, 9] = 1000.0
    heat = scale_shares(shares)
    assert heat.max() == heat[3, 0] == heat[9, 9] == 1


def test_a_cell_s_heat_stands_over_its_own_part_of_the_page() -> None:
    page = Image.new("RGB", (1200, 900), "white")
    shares = [[0.0] * 4 for _ in range(3)]
    shares[0][3], shares[2][1] = 0.4, -0.4
    picture = draw_heat(page, explanation_of(shares, 0.1))
    assert picture.size == (1200, 900 + LEGEND_HEIGHT)
    for row in range(3):
        for column in range(4):
            colour = picture.getpixel((column * 300 + 150, row * 300 + 150))
            expected = {(0, 3): ADDS[1], (2, 1): TAKES[1]}.get((row, column), (255, 255, 255))
            assert np.allclose(colour, expected, atol=4), (row, column)


def test_no_blue_is_invented_beside_a_peak() -> None:
    picture = draw_heat(Image.new("RGB", (1200, 900), "white"), explanation_of([[0, 0, 0, 1, 0, 0, 0]] * 3))
    assert redness(picture)[: 900 - 1].min() >= 0


def test_print_stays_readable_under_the_strongest_heat() -> None:
    page = Image.new("RGB", (1200, 900), "white")
    page.paste("black", (0, 450, 1200, 900))
    page = draw_heat(page, explanation_of([[0, 0, 1], [0, 0, 1]]))
    bright, dark = (sum(page.getpixel((1150, y))) for y in (200, 700))
    assert bright - dark > 200
    assert redness(page)[700, 1150] > 60  # a dark picture takes colour too


def test_a_narrow_page_has_room_for_its_legend() -> None:
    picture = draw_heat(Image.new("RGB", (140, 1400), "white"), explanation_of([[0.1], [-0.2]]), [Box(0, 0, 1, 0.1)])
    assert picture.size == (LEGEND_WIDTH, 1400 + LEGEND_HEIGHT)
    legend = np.asarray(picture.convert("L"))[1404:]
    assert legend[:, :500].min() < 100
    assert legend[:, -200:].min() < 200


def test_the_docstring_examples_are_right() -> None:
    import doctest

    from moca_rag.cli import heatmap

    assert doctest.testmod(heatmap) == doctest.TestResults(failed=0, attempted=2)
