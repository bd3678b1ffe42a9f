"""Measures how fast pages are embedded: the reference's way, transformers padded at its best, ours lever by lever.

    python benchmarks/encode.py [PAGES] [--shape tiny|3b|7b | --model FOLDER] [--num-pages 64] [--json FILE]

PAGES is a folder of PDFs or pictures (default: the demo's documents, drawn on the spot). All rows run in one process on
the same random weights and the same pages; each is checked against the first by the cosine of its embeddings.
"""
