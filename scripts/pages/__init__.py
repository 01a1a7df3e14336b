"""The pages of ``docs/`` that are written from the code, one file a page."""
