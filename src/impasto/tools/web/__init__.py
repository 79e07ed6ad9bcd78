"""The studio: a page on this machine, and an HTTP interface to the same engine. Needs the extra `web`."""
