"""Evaluate paintings: pairs, the usual figures, intervals, tables and a page. Only a verb imports it."""
