"""Draws the README's pictures from the demo: what a search looks like in a terminal, and a saved hit page.

python -m examples.pictures DEMO_DIR OUT_DIR
"""

import io
import re
import sys
from pathlib import Path

from moca_rag.cli.pictures import draw_page
from moca_rag.cli.search import Answers
from moca_rag.cli.terminal import Terminal
from moca_rag.cli.views import show_hits
from PIL import Image
from rich.console import Console

from moca_rag import Collection

QUESTION = "In which months will gas still be burnt once the medium heat pump works?"
COLUMNS = 100
PICTURE_WIDTH = 1100


def main(demo: Path, out: Path) -> None:
    """Ask one question of the demo's collection; write `search.svg` and `hit.png`."""
    out.mkdir(parents=True, exist_ok=True)
    with Collection.open(demo / "collection") as collection:
        hits = collection.search(QUESTION, top_k=3)
        mode = collection.fingerprint.mode
    terminal = Terminal()
    terminal.out = Console(record=True, width=COLUMNS, file=io.StringIO(), force_terminal=True, highlight=False)
    terminal.out.print(f'[bold green]$[/bold green] moca search "{QUESTION}" -k 3')
    terminal.out.print()
    show_hits(terminal, Answers(QUESTION, hits, mode, [], [], {}))
    drawing = terminal.out.export_svg(title="moca search", unique_id="moca")
    drawing = re.sub(
        r"@font-face \{.*?\}\s*", "", drawing, flags=re.DOTALL
    )  # the viewer's own font: nothing is fetched
    (out / "search.svg").write_text(drawing, encoding="utf-8")
    page = draw_page(hits[0].path, hits[0].page, hits[0].boxes)
    page = page.resize((PICTURE_WIDTH, page.height * PICTURE_WIDTH // page.width), Image.Resampling.LANCZOS)
    page.quantize(64).save(out / "hit.png", optimize=True)


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
