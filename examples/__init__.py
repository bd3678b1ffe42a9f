"""The demo corpus: a generator of PDFs and pictures, its texts, its questions."""
