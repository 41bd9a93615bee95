"""What a board's device tree asks for, held against what an image has: drivers, firmware, the way to the root.

`devicetree` reads, `drivers`, `suppliers` and `firmware` are pure checks, `stage` runs them over a build's results.
"""
