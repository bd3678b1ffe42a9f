"""Rows: their ids, their parts in order, and images that are right or refused."""

import io
import zlib
from dataclasses import replace

import numpy as np
import pytest
from moca_rag.train.rows import IMAGE_SLOT, CptRow, PairRow, RowError, Side, decode_image, measure_image, split_parts
from PIL import Image

from moca_rag.records import PixelBudget

SMALL = PixelBudget(4 * 784, 16 * 784)


def encode(image: Image.Image, format: str = "PNG", **options: object) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, format, **options)
    return buffer.getvalue()


def plain(colour: str, size: tuple[int, int] = (84, 56)) -> bytes:
    return encode(Image.new("RGB", size, colour))


def shapes(parts: list[object]) -> list[object]:
    return [part if isinstance(part, str) else part.shape for part in parts]


def test_parts_come_in_the_order_of_the_slots() -> None:
    text = f"before{IMAGE_SLOT}\nbetween{IMAGE_SLOT}"
    parts = split_parts(text, [plain("red"), plain("blue", (56, 112))], SMALL)
    assert shapes(parts) == ["before", (56, 84, 3), "\nbetween", (112, 56, 3)]
    assert parts[1][0, 0].tolist() == [255, 0, 0]
    assert parts[3][0, 0].tolist() == [0, 0, 255]


def test_a_text_without_slots_follows_its_images_as_an_encoder_reads_a_page() -> None:
    images = [plain("red"), plain("blue")]
    assert shapes(split_parts("two", images, SMALL)) == [(56, 84, 3), "\n", (56, 84, 3), "\ntwo"]
    assert shapes(split_parts("", images[:1], SMALL)) == [(56, 84, 3)]
    assert split_parts("words only", []) == ["words only"]


@pytest.mark.parametrize(("text", "num_images"), [(IMAGE_SLOT * 2, 1), (IMAGE_SLOT, 0), (IMAGE_SLOT, 2)])
def test_slots_and_images_must_be_as_many(text: str, num_images: int) -> None:
    with pytest.raises(RowError, match=f"{text.count(IMAGE_SLOT)} image slots for {num_images} images"):
        split_parts(text, [plain("red")] * num_images)


def test_what_is_transparent_lies_on_white_paper() -> None:
    clear = encode(Image.new("RGBA", (56, 56), (200, 0, 0, 0)))
    palette = Image.new("P", (56, 56), 0)
    palette.info["transparency"] = 0
    for data in (clear, encode(palette)):
        assert (decode_image(data, SMALL) == 255).all()


def test_a_photograph_is_turned_as_its_camera_noted() -> None:
    image = Image.new("RGB", (112, 56), "white")
    image.paste("black", (0, 0, 56, 56))  # black on the left
    exif = Image.Exif()
    exif[0x0112] = 6  # seen turned by 90 degrees to the right
    turned = decode_image(encode(image, "JPEG", exif=exif.tobytes(), quality=95), SMALL)
    assert turned.shape == (112, 56, 3)
    assert turned[10].mean() < 20
    assert turned[-10].mean() > 235


@pytest.mark.parametrize("mode", ["L", "1", "CMYK", "P", "I;16"])
def test_every_mode_becomes_rgb(mode: str) -> None:
    image = Image.new("L", (56, 84), 255)
    image = (
        Image.fromarray(np.full((84, 56), 65535, np.uint16)) if mode == "I;16" else image.convert("RGB").convert(mode)
    )
    decoded = decode_image(encode(image, "TIFF"), SMALL)
    assert decoded.shape == (84, 56, 3)
    assert decoded.dtype == np.uint8
    assert decoded.min() > 250


@pytest.mark.parametrize("format", ["PNG", "JPEG"])
def test_an_image_cut_short_is_refused_not_blackened(format: str) -> None:
    noise = Image.fromarray(np.random.default_rng(0).integers(0, 255, (200, 200, 3), dtype=np.uint8))
    data = encode(noise, format)
    with pytest.raises(RowError, match="cannot be decoded"):
        decode_image(data[: len(data) // 2])


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"no picture",
        b"P6 28 28 255\n" + bytes(3 * 28 * 28),
        b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n%%EndComments\n",
    ],
)
def test_what_is_no_picture_is_refused(data: bytes) -> None:
    with pytest.raises(RowError) as caught:
        decode_image(data)
    assert caught.value.code == "broken"


@pytest.mark.filterwarnings("ignore::PIL.Image.DecompressionBombWarning")
def test_an_image_that_claims_too_many_pixels_is_refused_unread() -> None:
    data = bytearray(plain("red"))
    data[16:24] = (60_000).to_bytes(4, "big") * 2
    data[29:33] = zlib.crc32(data[12:29]).to_bytes(4, "big")
    with pytest.raises(RowError, match="limit"):
        decode_image(bytes(data))


def test_an_id_is_of_the_content_and_of_where_each_part_ends() -> None:
    one, two = plain("red"), plain("blue")
    assert CptRow.of("a", [one]) == CptRow.of("a", (one,))
    rows = [CptRow.of("a", [one]), CptRow.of("a", [two]), CptRow.of("b", [one]), CptRow.of("a", [one, two])]
    rows += [CptRow.of("a", [one + two]), CptRow.of("a")]
    assert len({row.row_id for row in rows}) == len(rows)
    pairs = [PairRow.of("t", Side("ab"), Side("c")), PairRow.of("t", Side("a"), Side("bc"))]
    pairs += [PairRow.of("u", Side("ab"), Side("c")), PairRow.of("t", Side("ab"), Side("c"), [Side("d")])]
    pairs += [PairRow.of("t", Side("ab"), Side("c"), instruction="i"), PairRow.of("t", Side("ab", (one,)), Side("c"))]
    assert len({pair.row_id for pair in pairs}) == len(pairs)


def test_the_row_id_of_today_is_that_of_tomorrow() -> None:
    assert CptRow.of("text", [b"image"]).row_id == "6e426114b217a2ab41948acb5660032b"
    assert PairRow.of("task", Side("q"), Side("p", (b"i",))).row_id == "c1ec28eb1a7a5da5352023a0402c2705"


def test_equal_sides_have_equal_keys_of_64_signed_bits() -> None:
    one = plain("red")
    assert Side("a ", (one,)).key == Side("a", (one,)).key != Side("a").key
    keys = np.array([Side(str(number)).key for number in range(64)], np.int64)
    assert len(set(keys.tolist())) == 64
    assert keys.min() < 0 < keys.max()


def test_an_empty_row_is_refused_and_an_empty_negative_left_out() -> None:
    with pytest.raises(RowError, match="neither text nor image"):
        CptRow.of("  \n")
    with pytest.raises(RowError, match="positive"):
        PairRow.of("t", Side("q"), Side(" "))
    assert PairRow.of("t", Side("q"), Side("p"), [Side(), Side("n")]).negatives == (Side("n"),)


def test_an_instruction_stands_between_images_and_text() -> None:
    row = PairRow.of("t", Side("words"), Side("p"))
    assert row.asked == Side("words")
    row = replace(row, instruction="Find the page.")
    assert row.asked == Side("Find the page.\nwords")
    image = plain("red")
    row = replace(row, query=Side(f"{IMAGE_SLOT}\nwords", (image,)))
    assert row.asked == Side(f"{IMAGE_SLOT}\nFind the page.\nwords", (image,))
    row = replace(row, query=Side(f"{IMAGE_SLOT}\n", (image,)))
    assert row.asked == Side(f"{IMAGE_SLOT}\nFind the page.", (image,))


def test_an_image_is_measured_as_it_will_be_decoded() -> None:
    draw = np.random.default_rng(7)
    sizes = [(3538, 3541), (1953, 3052), (1, 1), (3000, 11), (11, 3000), *draw.integers(20, 3000, (30, 2)).tolist()]
    for width, height in sizes:
        image = Image.new("L", (width, height))
        exif = Image.Exif()
        exif[0x0112] = int(draw.integers(1, 9))
        for data in (
            encode(image, "JPEG", exif=exif.tobytes()),
            encode(image, "PNG", exif=exif.tobytes()),
            encode(image),
        ):
            assert decode_image(data, SMALL).shape[:2] == measure_image(data, SMALL), (width, height, exif[0x0112])


def test_measuring_decodes_no_png(monkeypatch: pytest.MonkeyPatch) -> None:
    data = plain("red")
    monkeypatch.setattr("PIL.PngImagePlugin.PngImageFile.load", lambda image: pytest.fail("it was decoded"))
    assert measure_image(data, SMALL) == (56, 84)
