"""What a style is: statistics of features, targets made of them, and the losses that compare them."""
