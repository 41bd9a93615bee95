"""The lab: nodes as system containers on one Linux machine, built from the same recipe as a device.

`wiring` decides names and addresses (pure), `root` unpacks a published image once,
`cgroups` gives every node a subtree of its own, `container` starts and ends one node,
`lab` is the lab as a whole. Everything that a lab makes is found again by its name, so
that `down` leaves nothing behind, whatever became of the process that made it.
"""
