"""Makes small documents, good and bad, and an encoder whose vectors can be predicted."""

import hashlib
import zlib
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Self

import numpy as np
import pymupdf
from PIL import Image

from moca_rag.passages import passage_key
from moca_rag.records import Explanation, Floats, ModelCard, Part, PixelBudget, Pixels, Query

PAGE_WORDS = (
    "The harbour ferry leaves at seven and carries forty wagons of timber.",
    "Copper prices fell after the harvest, and the smelter closed a furnace.",
    "A pump of this kind needs oil every ninety days and a new seal each year.",
    "Rainfall in the northern valley was half of what the farmers had hoped.",
    "The library lent nine thousand novels, most of them to schoolchildren.",
    "Traffic on the bridge doubled while the tunnel was closed for repairs.",
    "Every apprentice receives gloves, a helmet and a copy of the rules.",
    "Solar panels on the town hall paid for themselves within eleven years.",
)


def make_pdf(path: Path, pages: Sequence[str], *, title: str = "", password: str = "") -> Path:
    """A PDF of one small page for each text, its lines as given; encrypted where a password is given."""
    document = pymupdf.open()
    for text in pages:
        page = document.new_page(width=300, height=200)
        page.insert_textbox(pymupdf.Rect(20, 20, 280, 180), text, fontsize=11)
    document.set_metadata({"title": title})
    locked = {"encryption": pymupdf.PDF_ENCRYPT_AES_256, "user_pw": password, "owner_pw": password}
    path.parent.mkdir(parents=True, exist_ok=True)
    document.save(path, deflate=True, **(locked if password else {}))
    document.close()
    return path


def make_picture(path: Path, seed: int = 0, size: tuple[int, int] = (96, 64)) -> Path:
    """A picture of coloured squares; `path` may have any suffix, the content is PNG."""
    squares = np.random.default_rng(seed).integers(0, 255, (4, 6, 3), dtype=np.uint8)
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(squares).resize(size, Image.Resampling.NEAREST).save(path, format="PNG")
    return path


def make_raw_pdf(
    path: Path,
    content: bytes = b"",
    *,
    media_box: str = "0 0 200 200",
    resources: str = "",
    extra: Sequence[tuple[str, bytes]] = (),
    kids: str = "[3 0 R]",
) -> Path:
    """A PDF written object by object: one page (3 0 R) with this content stream (4 0 R).

    `extra` are further streams, from 5 0 R on: the entries of their dictionary, and their bytes. With `kids="[]"` the
    document has no page.
    """
    count = 0 if kids == "[]" else 1
    page = f"<< /Type /Page /Parent 2 0 R /MediaBox [{media_box}] /Contents 4 0 R /Resources << {resources} >> >>"
    objects = [
        b"<< /Type /Catalog /Pages 2 0 R >>",
        f"<< /Type /Pages /Kids {kids} /Count {count} >>".encode(),
        page.encode(),
        _stream("", content),
        *(_stream(entries, data) for entries, data in extra),
    ]
    body, places = b"%PDF-1.7\n", []
    for number, item in enumerate(objects, 1):
        places.append(len(body))
        body += b"%d 0 obj\n%s\nendobj\n" % (number, item)
    table = b"".join(b"%010d 00000 n \n" % place for place in places)
    size = len(objects) + 1
    tail = b"trailer\n<< /Size %d /Root 1 0 R >>\nstartxref\n%d\n%%%%EOF\n" % (size, len(body))
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(body + b"xref\n0 %d\n0000000000 65535 f \n" % size + table + tail)
    return path


def make_slow_pdf(path: Path) -> Path:
    """A page of forms within forms, ten to the ninth of them: reading it takes hours, and little memory."""
    levels = 9
    forms = []
    for level in range(levels):
        last = level == levels - 1
        content = b"0 0 m 9 9 l n\n" if last else b"/X Do\n" * 10
        resources = "" if last else f"/XObject << /X {6 + level} 0 R >>"
        forms.append((f"/Type /XObject /Subtype /Form /BBox [0 0 200 200] /Resources << {resources} >>", content))
    return make_raw_pdf(path, b"/X Do\n" * 10, resources="/XObject << /X 5 0 R >>", extra=forms)


def make_hungry_pdf(path: Path, megabytes: int = 150) -> Path:
    """A page whose one word takes so many megabytes once it is unpacked; the file itself stays small."""
    packer = zlib.compressobj(1)
    packed = packer.compress(b"BT /F1 9 Tf (") + b"".join(packer.compress(b"a" * 1_000_000) for _ in range(megabytes))
    packed += packer.compress(b") Tj ET") + packer.flush()
    font = "/Font << /F1 << /Type /Font /Subtype /Type1 /BaseFont /Helvetica >> >>"
    make_raw_pdf(path, resources=font, extra=[("/Filter /FlateDecode", packed)])
    path.write_bytes(path.read_bytes().replace(b"/Contents 4 0 R", b"/Contents 5 0 R"))
    return path


def make_huge_image_pdf(path: Path, side: int = 60_000) -> Path:
    """A page with one picture that claims side x side pixels in a few bytes."""
    entries = (
        f"/Type /XObject /Subtype /Image /Width {side} /Height {side} /BitsPerComponent 8 /ColorSpace /DeviceRGB "
        "/Filter /FlateDecode"
    )
    packed = zlib.compress(b"\x7f" * 10_000_000, 9)
    return make_raw_pdf(
        path, b"q 200 0 0 200 0 0 cm /I Do Q", resources="/XObject << /I 5 0 R >>", extra=[(entries, packed)]
    )


def _stream(entries: str, data: bytes) -> bytes:
    return b"<< %s /Length %d >>\nstream\n%s\nendstream" % (entries.encode(), len(data), data)


class PixelEncoder:
    """Unit vectors that depend on nothing but the pixels of a page or the words of a passage or query.

    Each page and passage that it embeds leaves a line in `log`, where one is given, so that a killed process can be asked too.
    """

    card = ModelCard("pixel-encoder", "1", 16, "mean", "", "", PixelBudget(4 * 784, 16 * 784))

    def __init__(self, model: object = "", *, log: Path | None = None, **_: object) -> None:
        self.log = log

    @classmethod
    def of(cls, card: ModelCard) -> Self:
        """The one that it stands for: `DeferredEmbedder.of`."""
        return cls(card.name)

    def encode_queries(self, queries: Sequence[Query]) -> Floats:
        """One unit vector [D] a query."""
        return np.stack([self._vector(repr((query.text, query.image)).encode()) for query in queries])

    def encode_pages(self, parts: Iterable[Part]) -> Iterator[Floats]:
        """One unit vector [D] a page or passage, in order."""
        for part in parts:
            is_text = isinstance(part, str)
            if self.log is not None:
                with self.log.open("a", encoding="utf-8") as file:
                    file.write((passage_key(part) if is_text else self.key(part)).hex() + "\n")
            yield self._vector(part.encode() if is_text else part.tobytes())

    def explain(self, query: Query, image: Pixels) -> Explanation:
        """The cosine in equal shares."""
        score = float(self.encode_queries([query])[0] @ self._vector(image.tobytes()))
        cells = image.shape[0] // 28, image.shape[1] // 28
        return Explanation(score, np.full(cells, score / np.prod(cells), np.float32), 0.0)

    @staticmethod
    def key(image: Pixels) -> bytes:
        """The key under which the catalog knows this picture."""
        return hashlib.sha256(repr(list(image.shape)).encode() + image.tobytes()).digest()[:16]

    def _vector(self, data: bytes) -> Floats:
        seed = int.from_bytes(hashlib.sha256(data).digest()[:8], "little")
        vector = np.random.default_rng(seed).standard_normal(self.card.dimension).astype(np.float32)
        return vector / np.linalg.norm(vector)
