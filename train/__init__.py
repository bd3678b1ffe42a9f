"""Program: from a vision-language model to an embedding model, both stages of MoCa (arXiv 2506.23115)."""
