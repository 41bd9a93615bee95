"""Hardware that is not there, played by programs: each speaks the real protocol, so that the real tools talk to it."""
