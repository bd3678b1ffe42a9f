"""Write the demo corpus: PDFs and pictures as people have them, the same bytes on every run.

python -m examples.corpus OUT_DIR
"""

import argparse
from pathlib import Path

import pymupdf

from .documents import make_document
from .leaflets import make_recipe, make_timetable
from .paperwork import make_form, make_invoices, make_statement
from .pricelist import make_price_lists
from .scans import SCANS, make_board, make_receipt, make_scan

TEXTS = {
    "reports": ("annual-report-2023", "water-quality-2022", "water-quality-2023", "energy-audit-town-hall", "school-energy-2023"),
    "papers": ("woodchip-paper",),
    "slides": ("heat-from-the-river",),
    "manuals": ("pump-manual", "ventilation-manual"),
    "letters": ("letter-chimney", "minutes-cold-store"),
    "misc": ("waermeplan-ebersroda", "compost-jardin-partage", "mizu-dayori"),
}  # fmt: skip


def make_traffic_study() -> pymupdf.Document:
    """The traffic study, with its landscape table on a portrait page that says `/Rotate 90`."""
    doc, wide = make_document("traffic-study-harbour-road"), make_document("traffic-counts")
    page = doc.new_page(width=wide[0].rect.height, height=wide[0].rect.width)
    page.show_pdf_page(page.rect, wide, 0, rotate=90)
    page.set_rotation(90)
    return doc


def make_pdfs() -> dict[str, pymupdf.Document]:
    """All PDFs of the corpus by their path, as open documents."""
    pdfs = {f"{folder}/{name}.pdf": make_document(name) for folder, names in TEXTS.items() for name in names}
    pdfs["reports/traffic-study-harbour-road.pdf"] = make_traffic_study()
    pdfs["finance/account-statement-2023-q3.pdf"] = make_statement()
    pdfs["finance/grant-application-form.pdf"] = make_form()
    pdfs |= {f"scans/{name}.pdf": make_scan(name) for name in SCANS}
    return pdfs | make_invoices() | make_price_lists() | dict([make_timetable(), make_recipe()])


def build_corpus(out_dir: Path) -> tuple[int, int]:
    """Write every document below `out_dir` and return how many documents and pages there are."""
    pictures = {"scans/market-plan-whiteboard.png": make_board(), "scans/receipt-hardware.jpg": make_receipt()}
    for path, content in pictures.items():
        (out_dir / path).parent.mkdir(parents=True, exist_ok=True)
        (out_dir / path).write_bytes(content)
    pages = len(pictures)
    pdfs = make_pdfs()
    for path, doc in pdfs.items():
        (out_dir / path).parent.mkdir(parents=True, exist_ok=True)
        doc.subset_fonts()
        doc.save(out_dir / path, garbage=4, deflate=True, no_new_id=True)
        pages += len(doc)
    return len(pdfs) + len(pictures), pages


def main() -> None:
    """Read the folder from the command line, write the corpus, say what was written."""
    parser = argparse.ArgumentParser(description="Write the demo corpus: PDFs and pictures of many kinds.")
    parser.add_argument("out_dir", type=Path, help="folder for the documents; files of the same name are replaced")
    out_dir = parser.parse_args().out_dir
    documents, pages = build_corpus(out_dir)
    print(f"{documents} documents with {pages} pages in {out_dir}")


if __name__ == "__main__":
    main()
