"""Program: from folders of PDFs and images to a collection."""
