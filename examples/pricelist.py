"""The price lists of two years: the same table over many pages, alike but for their prices."""

from typing import Any

import numpy as np
import pymupdf

from .canvas import GREY, PAPER, Canvas
from .documents import describe
from .layout import PALETTES
from .markup import read_data
from .paperwork import A4, format_money, open_page
from .tables import Table, draw_rows, measure_table

LEFT, RIGHT, TOP, BOTTOM = 50, 545, 96, 780
ACCENTS = {2023: "slate", 2024: "teal"}


def make_price_lists() -> dict[str, pymupdf.Document]:
    """One price list for each year, by path; the prices of a year grow out of those of the year before."""
    data = read_data("price_list")
    return {f"finance/price-list-{year}.pdf": make_price_list(data, year) for year in data["years"]}


def price_group(data: dict[str, Any], group: dict[str, Any], year: int) -> list[list[str]]:
    """Rows of article number, name, weight, pack, price and discount group, without a head."""
    random = np.random.default_rng(group["base"])
    corrections = dict(data["changes"])
    rows = []
    for index, (name, price) in enumerate(group["items"]):
        weight = price * group["kg_per_euro"] * float(random.uniform(0.8, 1.2))
        pack, rise = int(random.choice([1, 5, 10])) if price < 40 else 1, float(random.uniform(1.015, 1.07))
        if year > data["years"][0]:
            price = round((price * rise + corrections.get(name, 0.0)) * 20) / 20
        number = f"{group['letters']}-{group['base']}-{100 + 10 * index}"
        rows.append([number, name, f"{max(weight, 0.01):.2f}", str(pack), format_money(price), group["discount"]])
    return rows


def make_price_list(data: dict[str, Any], year: int) -> pymupdf.Document:
    """All groups under one another; a group that does not fit goes to the next page."""
    doc = pymupdf.open()
    palette = PALETTES[ACCENTS[year]]
    head = ["Article", "Description", "kg", "Pack", "Price", "Group"]
    pen, y = open_list_page(doc, data, year), float(TOP)
    outline = []
    for group in data["groups"]:
        rows = price_group(data, group, year)
        table = fix_widths(measure_table([head, *rows], RIGHT - LEFT, 9, "zebra", palette))
        if y + 26 + sum(table.heights) > BOTTOM:
            pen.finish()
            pen, y = open_list_page(doc, data, year), float(TOP)
        pen.text((LEFT, y + 14), group["title"], 12, "hebo", palette[0])
        draw_rows(pen, (LEFT, y + 22), table, range(len(table.rows)))
        outline.append([1, group["title"], len(doc)])
        y += 22 + sum(table.heights) + 16
    pen.finish()
    doc.set_toc(outline)
    describe(doc, f"{data['title']} {year}", data["author"], f"{year}-01-20")
    return doc


def fix_widths(table: Table) -> Table:
    """The same columns on all pages, whatever the cells hold."""
    shares = (0.2, 0.4, 0.09, 0.08, 0.14, 0.09)
    table.widths[:] = [share * (RIGHT - LEFT) for share in shares]
    return table


def open_list_page(doc: pymupdf.Document, data: dict[str, Any], year: int) -> Canvas:
    """A page of the list with its coloured head, the terms and the page number."""
    pen = open_page(doc)
    colour = PALETTES[ACCENTS[year]][0]
    pen.rect((0, 0, A4[0], 58), fill=colour)
    pen.text((LEFT, 37), data["title"], 15, "hebo", PAPER)
    pen.text((RIGHT, 38), str(year), 20, "hebo", PAPER, "right")
    pen.text((LEFT, 76), data["intro"].format(year=year), 7.5, "helv", GREY)
    pen.text((A4[0] / 2, 812), f"{year} / {len(doc)}", 8.5, "helv", GREY, "center")
    return pen
