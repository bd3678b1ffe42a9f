"""Pages as a scanner or a camera leaves them: grey, noisy, a little skewed, without any text behind the picture."""

import io
import math
from collections.abc import Sequence
from itertools import pairwise

import numpy as np
import pymupdf
from PIL import Image, ImageFilter

from .canvas import Canvas, Point, smooth
from .documents import describe, make_document
from .markup import read_data, read_document
from .paperwork import format_money

SCANS = {"flood-report-1987": 0.7, "boiler-inspection-1996": -1.1}
DPI = 110


def render_grey(page: pymupdf.Page, dpi: int = DPI) -> Image.Image:
    """The page as a grey picture."""
    pixmap = page.get_pixmap(dpi=dpi, colorspace=pymupdf.csGRAY)
    return Image.frombytes("L", (pixmap.width, pixmap.height), pixmap.samples)


def age_picture(picture: Image.Image, skew: float, seed: int, holes: tuple[float, ...] = ()) -> Image.Image:
    """Skew (degrees), blur, uneven light, a dark gutter at the left, punch holes and the noise of the sensor.

    `holes` are heights of holes in the left margin, as shares of the page.
    """
    random = np.random.default_rng(seed)
    picture = picture.rotate(skew, resample=Image.Resampling.BICUBIC, fillcolor=236)
    picture = picture.filter(ImageFilter.GaussianBlur(0.7))
    pixels = np.asarray(picture, dtype=np.float32) * 0.86 + 20
    height, width = pixels.shape
    rows, columns = np.mgrid[0:height, 0:width].astype(np.float32)
    pixels -= 26 * np.exp(-columns / (width * 0.025)) + 9 * (rows / height)
    for y in holes:
        hole = (columns - width * 0.04) ** 2 + (rows - height * y) ** 2 < (width * 0.0125) ** 2
        pixels[hole] = 70
    pixels += random.normal(0, 7.0, pixels.shape)
    specks = random.integers(0, height * width, 260)
    pixels.reshape(-1)[specks] = random.uniform(60, 140, specks.shape)
    return Image.fromarray(np.clip(pixels, 0, 255).astype(np.uint8))


def encode_jpeg(picture: Image.Image, quality: int = 48) -> bytes:
    """The picture as JPEG bytes."""
    buffer = io.BytesIO()
    picture.save(buffer, "JPEG", quality=quality)
    return buffer.getvalue()


def make_scan(name: str) -> pymupdf.Document:
    """The typed document of that name, stamped by hand, put through the scanner: one JPEG a page, no text layer."""
    head, _ = read_document(name)
    source = make_document(name)
    stamp_page(source[0], head["date"])
    doc = pymupdf.open()
    for number, page in enumerate(source):
        skew = SCANS[name] * (1 if number % 2 == 0 else -0.6)
        picture = age_picture(render_grey(page), skew, seed=100 + number, holes=(0.42, 0.58))
        target = doc.new_page(width=page.rect.width, height=page.rect.height)
        target.insert_image(target.rect, stream=encode_jpeg(picture))
    describe(doc, head["title"], head["author"], head["date"])
    return doc


def stamp_page(page: pymupdf.Page, date: str) -> None:
    """A round stamp and a tick in ink at the top right corner."""
    pen = Canvas(page)
    pen.circle((470, 104), 38, colour="#555555", width=1.8)
    pen.circle((470, 104), 32, colour="#555555", width=0.8)
    pen.text((470, 98), "RECEIVED", 9, "hebo", "#444444", "center", 12)
    pen.text((472, 113), date, 9.5, "cobo", "#444444", "center", 12)
    pen.line(smooth([(424, 150), (434, 162), (452, 132), (480, 120)]), "#333333", 1.6)
    pen.finish()


def wobble(points: Sequence[Point], random: np.random.Generator, size: float = 1.4) -> list[Point]:
    """A line as a hand draws it: bent a little between its points."""
    bent = []
    for (ax, ay), (bx, by) in pairwise(points):
        steps = max(2, int(math.hypot(bx - ax, by - ay) / 26))
        for step in range(steps):
            t = step / steps
            dx, dy = random.normal(0, size, 2)
            bent.append((ax + (bx - ax) * t + float(dx), ay + (by - ay) * t + float(dy)))
    return smooth([*bent, points[-1]])


def make_board() -> bytes:
    """A photo of a whiteboard, as PNG: the plan of the market stalls, drawn by hand in three colours."""
    data = read_data("pictures")["board"]
    random = np.random.default_rng(21)
    doc = pymupdf.open()
    page = doc.new_page(width=720, height=500)
    pen = Canvas(page)
    pen.rect((0, 0, 720, 500), fill="#e9ecee")
    pen.text((40, 52), data["title"], 24, "heit", "#1c3f95")
    pen.line(wobble([(40, 62), (430, 62)], random), "#1c3f95", 2)
    for name, x, y, wide, tall, colour in data["stalls"]:
        corners = [(x, y), (x + wide, y), (x + wide, y + tall), (x, y + tall), (x, y)]
        pen.line(wobble(corners, random), colour, 2.2)
        pen.lines((x + wide / 2, y + tall / 2 + 2), name.split("\n"), 13, "heit", colour, "center", 1.2)
    for points, colour in data["arrows"]:
        pen.arrow(wobble([tuple(p) for p in points], random), colour, 2.2, head=11)
    for text, x, y, colour in data["notes"]:
        pen.text((x, y), text, 14, "heit", colour, "left", 2)
    pen.finish()
    pixmap = page.get_pixmap(dpi=110)
    pixels = np.frombuffer(pixmap.samples, dtype=np.uint8).reshape(pixmap.height, pixmap.width, 3).astype(np.float32)
    rows, columns = np.mgrid[0 : pixmap.height, 0 : pixmap.width].astype(np.float32)
    glare = np.exp(-((columns - pixmap.width * 0.72) ** 2 + (rows - pixmap.height * 0.2) ** 2) / (2 * 170.0**2))
    pixels = pixels * 0.9 + 22 * glare[..., None] + random.normal(0, 1.2, pixels.shape[:2])[..., None]
    picture = Image.fromarray(np.clip(pixels, 0, 255).astype(np.uint8)).quantize(128)
    buffer = io.BytesIO()
    picture.save(buffer, "PNG", optimize=True)
    return buffer.getvalue()


def make_receipt() -> bytes:
    """A till receipt, photographed, as JPEG; the sum is computed from its lines."""
    data = read_data("pictures")["receipt"]
    doc = pymupdf.open()
    page = doc.new_page(width=260, height=200 + 17 * len(data["items"]) + 150)
    pen = Canvas(page)
    y = pen.lines((130, 40), data["shop"], 11, "cobo", "#222222", "center", 1.4) + 10
    total = 0.0
    for name, count, price in data["items"]:
        total += count * price
        pen.text((18, y), f"{count} x {name}", 9.5, "cour", "#222222")
        pen.text((242, y), format_money(count * price), 9.5, "cour", "#222222", "right")
        y += 17
    pen.line([(18, y - 6), (242, y - 6)], "#222222", 0.8, "[3 2] 0")
    for name, value in (("TOTAL EUR", total), ("CASH", data["cash"]), ("CHANGE", data["cash"] - total)):
        pen.text((18, y + 10), name, 11, "cobo", "#222222")
        pen.text((242, y + 10), format_money(value), 11, "cobo", "#222222", "right")
        y += 19
    pen.lines((130, y + 24), data["foot"], 8.5, "cour", "#222222", "center", 1.4)
    pen.finish()
    return encode_jpeg(age_picture(render_grey(page, 150), 2.2, seed=5), 60)
