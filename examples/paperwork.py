"""Papers with a fixed shape: invoices, an account statement, a form that somebody has filled in."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import pymupdf

from .canvas import GREY, INK, PAPER, RULE, Canvas, blend, measure, smooth, wrap
from .documents import describe
from .layout import PALETTES
from .markup import fill_sums, read_data
from .tables import draw_rows, measure_table

A4 = (595, 842)
LEFT, RIGHT = 64, 531
PEN = "#23408e"


def format_money(value: float) -> str:
    """An amount with two decimals and thousands set apart."""
    return f"{value:,.2f}".replace(",", " ").replace("-", "−")


def open_page(doc: pymupdf.Document) -> Canvas:
    """A new A4 page at the end of the document."""
    return Canvas(doc.new_page(width=A4[0], height=A4[1]))


def make_invoices() -> dict[str, pymupdf.Document]:
    """The invoices of `texts/invoices.toml`, by path."""
    return {data["path"]: make_invoice(data) for data in read_data("invoices")["invoice"]}


def make_invoice(data: dict[str, Any]) -> pymupdf.Document:
    """One invoice on one page; all amounts are computed from its items."""
    doc = pymupdf.open()
    pen, palette = open_page(doc), PALETTES[data["accent"]]
    pen.rect((0, 0, A4[0], 12), fill=palette[0])
    pen.text((LEFT, 66), data["seller"][0], 20, "hebo", palette[0])
    pen.lines((LEFT, 84), data["seller"][1:], 9, "helv", GREY)
    pen.rect((LEFT, 140, 300, 222), colour=RULE)
    pen.lines((LEFT + 10, 158), data["buyer"], 11, "helv", INK, leading=1.35)
    facts = (("Invoice", data["number"]), ("Date", data["shown_date"]), ("Due", data["due"]))
    for index, (name, value) in enumerate(facts):
        pen.text((350, 158 + 18 * index), name, 9.5, "helv", GREY)
        pen.text((RIGHT, 158 + 18 * index), value, 10.5, "hebo", INK, "right")
    y = pen.lines((LEFT, 262), wrap(data["subject"], "hebo", 11.5, RIGHT - LEFT), 11.5, "hebo", INK)
    rows = [["No.", "Description", "Quantity", "Unit", "Price", "Amount"]]
    net = 0.0
    for number, (name, count, unit, price) in enumerate(data["items"], 1):
        amount = round(count * price, 2)
        net += amount
        rows.append(
            [str(number), name, f"{count:,}".replace(",", " "), unit, format_money(price), format_money(amount)]
        )
    table = measure_table(rows, RIGHT - LEFT, 9.5, "zebra", palette)
    draw_rows(pen, (LEFT, y + 6), table, range(len(rows)))
    y += 6 + sum(table.heights) + 26
    tax = round(net * data["tax"] / 100, 2)
    sums = [("Net", net), (f"VAT {data['tax']} %", tax), ("Total in euros", net + tax)]
    if "deduction" in data:
        name, amount = data["deduction"]
        sums += [(name, -amount), ("To be paid", net + tax - amount)]
    for name, amount in sums:
        strong = name in ("Total in euros", "To be paid")
        if strong:
            pen.line([(330, y - 13), (RIGHT, y - 13)], INK, 0.9)
        pen.text((330, y), name, 10, "hebo" if strong else "helv")
        pen.text((RIGHT, y), format_money(amount), 10.5, "hebo" if strong else "helv", INK, "right")
        y += 19
    pen.lines((LEFT, y + 30), wrap(data["note"], "heit", 9.5, RIGHT - LEFT), 9.5, "heit", INK)
    pen.line([(LEFT, 782), (RIGHT, 782)], RULE)
    pen.text((LEFT, 798), f"Payable to {data['account']}, reference {data['number']}", 8.5, "helv", GREY)
    pen.finish()
    describe(doc, f"Invoice {data['number']}", data["seller"][0], data["date"])
    return doc


def make_statement() -> pymupdf.Document:
    """Three months of an account, balance carried from page to page; the bookings come from a fixed seed."""
    data = read_data("statement")
    doc = pymupdf.open()
    rows, balance = book_quarter(data)
    head = ["Date", "Text", "Out", "In", "Balance"]
    per_page = 32
    pages = [rows[i : i + per_page] for i in range(0, len(rows), per_page)]
    for number, part in enumerate(pages, 1):
        pen = open_page(doc)
        pen.rect((LEFT, 44, LEFT + 26, 70), fill="#14666b")
        pen.circle((LEFT + 13, 57), 8, colour=PAPER, width=2)
        pen.text((LEFT + 36, 63), data["bank"], 15, "hebo", "#14666b")
        pen.text((RIGHT, 56), f"Statement {data['number']}", 9.5, "hebo", INK, "right")
        pen.text((RIGHT, 69), f"page {number} of {len(pages)}", 8.5, "helv", GREY, "right")
        pen.text((LEFT, 98), data["holder"], 10.5, "hebo")
        pen.text((LEFT, 112), data["account"], 9.5)
        pen.text((RIGHT, 112), data["period"], 9.5, "helv", INK, "right")
        first = [["", "Balance brought forward", "", "", part[0][5]]]
        last = [
            [
                "",
                f"**{'New balance' if number == len(pages) else 'Balance carried over'}**",
                "",
                "",
                f"**{part[-1][4]}**",
            ]
        ]
        table = measure_table(
            [head, *first, *(row[:5] for row in part), *last], RIGHT - LEFT, 8.6, "rules", PALETTES["teal"]
        )
        draw_rows(pen, (LEFT, 126), table, range(len(table.rows)))
        if number == len(pages):
            y = 126 + sum(table.heights) + 24
            pen.lines((LEFT, y), wrap(data["note"], "helv", 8.5, RIGHT - LEFT), 8.5, "helv", GREY)
        pen.finish()
    describe(doc, f"Account statement {data['number']}", data["bank"], data["date"])
    assert format_money(balance) == pages[-1][-1][4]
    return doc


def book_quarter(data: dict[str, Any]) -> tuple[list[list[str]], float]:
    """Rows of date, text, out, in, balance after and balance before; and the last balance."""
    bookings = [(month, day, text, amount) for day, month, text, amount in data["fixed"]]
    random = np.random.default_rng(7)
    for month, days in ((7, 31), (8, 31), (9, 30)):
        for day in range(2, days + 1, 3):
            bookings.append((month, day, "Card takings mobile shop", round(float(random.uniform(480, 1260)), 2)))
        for day, (text, low, high) in zip((4, 9, 14, 19, 23, 27), data["regular"], strict=True):
            bookings.append((month, day, text, -round(float(random.uniform(low, high)), 2)))
    rows, balance = [], data["opening"]
    for month, day, text, amount in sorted(bookings):
        before, balance = balance, round(balance + amount, 2)
        spent, earned = (format_money(-amount), "") if amount < 0 else ("", format_money(amount))
        rows.append([f"{day:02}.{month:02}.", text, spent, earned, format_money(balance), format_money(before)])
    return rows, balance


def make_form() -> pymupdf.Document:
    """The application form, filled in with blue ink, a tick for every choice."""
    data = read_data("form")
    doc = pymupdf.open()
    pen, y = open_form_page(doc, data, 1)
    for index, part in enumerate(data["part"]):
        if index == 2:
            pen.finish()
            pen, y = open_form_page(doc, data, 2)
        pen.rect((LEFT, y, RIGHT, y + 20), fill=blend("#33475b", PAPER, 0.8))
        pen.text((LEFT + 6, y + 14), part["title"], 10.5, "hebo", "#33475b")
        y = draw_form_part(pen, part, y + 32)
    pen.finish()
    describe(doc, data["title"], data["office"], data["date"])
    return doc


def open_form_page(doc: pymupdf.Document, data: dict[str, Any], number: int) -> tuple[Canvas, float]:
    """A page of the form with its head; returns the canvas and where the first part begins."""
    pen = open_page(doc)
    pen.text((LEFT, 52), data["office"], 9.5, "hebo", GREY)
    pen.text((RIGHT, 52), f"{data['code']} – {number}/2", 8.5, "helv", GREY, "right")
    if number > 1:
        return pen, 76
    pen.text((LEFT, 86), data["title"], 16.5, "hebo")
    pen.text((LEFT, 102), "Please fill in with a dark pen. Fields that do not apply stay empty.", 8.5, "heit", GREY)
    pen.rect((RIGHT - 120, 112, RIGHT, 150), colour=GREY)
    pen.text((RIGHT - 114, 123), "Received (office only)", 7.5, "helv", GREY)
    pen.text((RIGHT - 60, 142), "17 JAN 2024", 12, "cobo", "#b3261e", "center", 4)
    return pen, 166


def draw_form_part(pen: Canvas, part: dict[str, Any], y: float) -> float:
    """Fields, boxes for single characters, free text, a table, ticks and a signature; returns the y below them."""
    x, wide = LEFT, RIGHT - LEFT
    for name, value, share in part.get("fields", []):
        right = x + wide * share - (0 if share == 1 or x > LEFT else 10)
        pen.text((x, y + 2), name, 7.5, "helv", GREY)
        pen.rect((x, y + 6, right, y + 28), colour=GREY, fill="#fbfcfd")
        pen.text((x + 6, y + 21), value, 11, "cour", PEN)
        x = LEFT if x > LEFT or share == 1 else LEFT + wide / 2
        y += 0 if x > LEFT else 40
    if "boxes" in part:
        name, digits = part["boxes"]
        pen.text((LEFT, y + 2), name, 7.5, "helv", GREY)
        for index, digit in enumerate(digits):
            left = LEFT + 20 * index + (10 if index > 1 else 0) + (10 if index > 3 else 0)
            pen.rect((left, y + 6, left + 18, y + 28), colour=GREY)
            pen.text((left + 9, y + 21), digit, 12, "cour", PEN, "center")
        y += 44
    if "text" in part:
        y = draw_form_text(pen, *part["text"], y)
    if "table" in part:
        table = measure_table(fill_sums(part["table"]), wide, 9.5, "grid", PALETTES["slate"])
        draw_rows(pen, (LEFT, y), table, range(len(table.rows)))
        y += sum(table.heights) + 18
    for name, choices, chosen in part.get("ticks", []):
        draw_ticks(pen, name, choices, chosen, y)
        y += 24
    if "signature" in part:
        y = draw_signature(pen, part["signature"], y)
    return y + 8


def draw_form_text(pen: Canvas, name: str, value: str, y: float) -> float:
    """A large field with typed lines."""
    lines = wrap(value, "cour", 10.5, RIGHT - LEFT - 16)
    tall = 15 * len(lines) + 14
    pen.text((LEFT, y + 2), name, 7.5, "helv", GREY)
    pen.rect((LEFT, y + 6, RIGHT, y + 6 + tall), colour=GREY, fill="#fbfcfd")
    pen.lines((LEFT + 8, y + 22), lines, 10.5, "cour", PEN, leading=15 / 10.5)
    return y + tall + 24


def draw_ticks(pen: Canvas, name: str, choices: Sequence[str], chosen: Sequence[int], y: float) -> None:
    """A row of small squares, crossed where chosen."""
    pen.text((LEFT, y + 9), name, 9, "hebo")
    x = LEFT + 124.0
    for index, choice in enumerate(choices):
        pen.rect((x, y, x + 11, y + 11), colour=INK)
        if index in chosen:
            pen.line([(x - 1, y - 1), (x + 12, y + 12)], PEN, 1.6)
            pen.line([(x - 1, y + 12), (x + 12, y - 1)], PEN, 1.6)
        pen.text((x + 16, y + 9), choice, 9)
        x += 32 + measure(choice, "helv", 9)


def draw_signature(pen: Canvas, words: Sequence[str], y: float) -> float:
    """Place and date, then a pen stroke over a line."""
    pen.text((LEFT + 4, y + 40), words[0], 11, "cour", PEN)
    pen.line([(LEFT, y + 46), (LEFT + 200, y + 46)], GREY, 0.6)
    pen.line([(300, y + 46), (RIGHT, y + 46)], GREY, 0.6)
    stroke = [
        (310, 38),
        (322, 8),
        (328, 44),
        (340, 26),
        (350, 40),
        (362, 24),
        (372, 38),
        (386, 12),
        (392, 42),
        (420, 28),
        (470, 34),
    ]
    pen.line(smooth([(px, y + py) for px, py in stroke]), PEN, 1.3)
    pen.text((LEFT, y + 57), "Place and date", 7.5, "helv", GREY)
    pen.text((300, y + 57), f"Signature ({words[1]})", 7.5, "helv", GREY)
    return y + 70
