"""Training of the bundled networks, and of the user's own."""
