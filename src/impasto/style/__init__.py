"""Styles: statistics of features, targets made from them, and the losses that compare them."""
