"""The code of the project; the project root is on PYTHONPATH, so an import path equals a file path."""
