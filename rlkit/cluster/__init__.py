"""Where models live and how weights travel between them."""
