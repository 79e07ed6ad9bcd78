"""Stylizers, the functions that choose one, and the library's one-shot calls."""
