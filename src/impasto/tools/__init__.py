"""Tools around the stylizers; each is a leaf that only the command line imports."""
