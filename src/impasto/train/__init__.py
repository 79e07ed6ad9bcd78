"""Training of the networks that ship with the package, and of one's own."""
