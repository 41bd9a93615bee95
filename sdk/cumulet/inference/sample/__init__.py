"""A small network of our own, in the format of every runtime: what the self-test runs.

`network` makes weights, inputs and the right answers; each other module writes the same network in one format.
"""
