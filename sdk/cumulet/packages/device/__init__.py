"""What runs on a device, handed over with every call: the standard library only, and nothing of the image's own SDK.

`bundle` says which modules travel together; each imports only the standard library,
`cumulet.core.errors` and those before it.
"""
