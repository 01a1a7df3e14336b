"""Records: what a cell leaves behind, the only source of every table. Nothing here imports torch."""
