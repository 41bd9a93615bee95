"""What becomes of a root file system between its packages and its partition."""

BBIMPORTS = ["facts", "trim"]
