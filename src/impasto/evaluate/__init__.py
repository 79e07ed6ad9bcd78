"""Evaluate paintings by the field's figures: pairs, figures, intervals, tables and a page. Only a verb imports it."""
