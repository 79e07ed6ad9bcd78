"""How a picture is painted: the stylizers, what chooses among them, and the calls of the library."""
