"""Putting an image onto a device: facts -> plan -> act -> verify. `flash.py` is the list to read first.

A way of flashing is one module with `probe`, `make_plan`, `act` and `verify`, and one line in `methods.py`.
"""
