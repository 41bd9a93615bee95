"""What runs on a node while a task is measured: the standard library only, handed over as one text."""
