"""Search folders of PDFs by meaning and by look."""
