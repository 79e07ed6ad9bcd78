"""The studio: a web page and an HTTP interface on the same engine. Needs the extra `web`."""
