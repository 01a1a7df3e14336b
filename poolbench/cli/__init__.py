"""The command line, one short file a command; `main.py` dispatches."""
