"""Impasto paints a photograph in the style of another picture."""

__version__ = "0.1.0"
