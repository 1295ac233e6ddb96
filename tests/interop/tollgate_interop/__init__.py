"""A client of tollgate/1, written from protocol/PROTOCOL.md alone."""
