from contextlib import closing
from pathlib import Path

import numpy as np
import pymupdf
import pytest
from PIL import Image

from moca_rag.errors import DocumentError
from moca_rag.pixels import target_size
from moca_rag.records import DocumentInfo, PageContent, PixelBudget
from moca_rag.render import open_document, read_image
from tests.fakes import write_pdf

BUDGET = PixelBudget()


def read_page(path: Path, number: int = 1) -> PageContent:
    with closing(open_document(path)) as document:
        return document.read_page(number, BUDGET)


def read_info(path: Path) -> DocumentInfo:
    with closing(open_document(path)) as document:
        return document.info


@pytest.mark.parametrize(("width", "height", "tokens"), [(595, 842, 988), (612, 792, 1008)])
def test_a_page_is_drawn_at_the_size_that_the_method_names(width: int, height: int, tokens: int) -> None:
    rows, columns = target_size(width, height, BUDGET)
    assert rows * columns // 784 == tokens


@pytest.mark.parametrize("size", [(0, 0), (-5, 10), (1e6, 1e6), (1e6, 1), (0.5, 900), (14400, 14400)])
def test_absurd_sizes_are_clamped_into_the_budget(size: tuple[float, float]) -> None:
    rows, columns = target_size(*size, BUDGET)
    assert rows % 28 == columns % 28 == 0
    assert rows * columns <= BUDGET.max_pixels * 1.1


def test_pixels_are_those_of_one_rendering_at_the_target_size(tmp_path: Path) -> None:
    page = read_page(write_pdf(tmp_path / "a.pdf", ["red: ink"]))
    assert page.image is not None
    assert page.image.shape == (*target_size(420, 595, BUDGET), 3)
    height, width = page.image.shape[:2]
    assert tuple(page.image[int(height * 0.7), width // 2]) == (255, 0, 0)
    assert tuple(page.image[2, 2]) == (255, 255, 255)


def test_words_have_boxes_where_their_ink_is_also_on_a_turned_page(tmp_path: Path) -> None:
    source = pymupdf.open(write_pdf(tmp_path / "a.pdf", ["needle"]))
    for turn in (0, 90, 180, 270):
        source[0].set_rotation(turn)
        path = tmp_path / f"turned{turn}.pdf"
        source.save(path)
        page = read_page(path)
        (word,) = page.words
        assert page.image is not None
        rows, columns = np.nonzero(page.image.min(2) < 128)
        height, width = page.image.shape[:2]
        x, y = columns.mean() / width, rows.mean() / height
        assert word.box.x0 < x < word.box.x1
        assert word.box.y0 < y < word.box.y1


def test_title_metadata_and_outline_are_read(tmp_path: Path) -> None:
    path = write_pdf(tmp_path / "a.pdf", ["one", "two"], title="A title", outline=[(1, "Start", 1), (2, "Deep", 2)])
    info = read_info(path)
    assert (info.kind, info.num_pages, info.title) == ("pdf", 2, "A title")
    assert [(heading.level, heading.title, heading.page) for heading in info.outline] == [
        (1, "Start", 1),
        (2, "Deep", 2),
    ]


@pytest.mark.parametrize("suffix", [".png", ".jpg", ".tiff", ".webp"])
def test_a_picture_is_a_document_of_one_page(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"a{suffix}"
    Image.new("RGB", (400, 200), "blue").save(path)
    info, page = read_info(path), read_page(path)
    assert (info.kind, info.num_pages, page.words) == ("image", 1, ())
    assert page.image is not None
    assert page.image.shape[1] > page.image.shape[0]
    assert page.image[50, 50].tolist() == pytest.approx([0, 0, 255], abs=3)


def test_every_frame_of_a_tiff_is_a_page(tmp_path: Path) -> None:
    frames = [Image.new("RGB", (300, 400), colour) for colour in ("red", "blue")]
    frames[0].save(tmp_path / "fax.tif", save_all=True, append_images=frames[1:])
    assert read_info(tmp_path / "fax.tif").num_pages == 2
    second = read_page(tmp_path / "fax.tif", 2).image
    assert second is not None
    assert second[9, 9].tolist() == [0, 0, 255]


def test_a_camera_picture_is_turned_upright_and_what_is_transparent_is_paper(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6  # turned by 90 degrees
    Image.new("RGB", (400, 200), "red").save(tmp_path / "a.jpg", exif=exif)
    upright = read_image(tmp_path / "a.jpg", BUDGET)
    assert upright.shape[0] > upright.shape[1]
    Image.new("RGBA", (400, 400), (255, 0, 0, 0)).save(tmp_path / "a.png")
    assert read_image(tmp_path / "a.png", BUDGET).min() == 255


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "CMYK", "I;16", "F"])
def test_every_kind_of_picture_becomes_rgb(tmp_path: Path, mode: str) -> None:
    path = tmp_path / "a.tif"
    Image.new(mode, (300, 300)).save(path)
    assert read_image(path, BUDGET).dtype == np.uint8


def test_a_picture_named_pdf_is_read_as_the_picture_that_it_is(tmp_path: Path) -> None:
    path = tmp_path / "really.pdf"
    Image.new("RGB", (300, 300), "green").save(path, format="PNG")
    assert read_info(path).kind == "image"


@pytest.mark.parametrize(
    ("content", "code"),
    [
        (b"", "empty_file"),
        (b"hello world, no document", "not_a_document"),
        (b"%PDF-1.4\ngarbage", "broken"),
        (b"\x89PNG\r\n\x1a\n123", "broken"),
    ],
)
def test_what_cannot_be_read_has_a_code(tmp_path: Path, content: bytes, code: str) -> None:
    path = tmp_path / "a.pdf"
    path.write_bytes(content)
    with pytest.raises(DocumentError) as caught:
        read_page(path)
    assert caught.value.code in (code, "no_pages")


def test_a_missing_file_is_unreadable(tmp_path: Path) -> None:
    with pytest.raises(DocumentError) as caught:
        open_document(tmp_path / "none.pdf")
    assert caught.value.code == "unreadable"


def test_passwords_open_what_they_fit(tmp_path: Path) -> None:
    source = pymupdf.open(write_pdf(tmp_path / "a.pdf", ["secret"]))
    path = tmp_path / "locked.pdf"
    source.save(path, encryption=pymupdf.PDF_ENCRYPT_AES_256, user_pw="open", owner_pw="owner")
    for passwords, code in [((), "password_required"), (("wrong",), "password_wrong")]:
        with pytest.raises(DocumentError) as caught:
            open_document(path, passwords)
        assert caught.value.code == code
    with closing(open_document(path, ("wrong", "open"))) as document:
        assert document.read_page(1, None).words[0].text == "secret"
