"""The way up: which link carries what, and the Beidou message that carries the status when there is none."""
