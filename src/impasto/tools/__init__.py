"""Tools around the stylizers, which only the command line imports."""
