"""Pictures: reading, writing, colour, sizes."""
