"""The hub: controllers that make any Kubernetes the place where clusters register.

`install` is what its API server must know, `policies` what that server refuses by
itself; `clusters`, `requests`, `leases`, `placements` and `replicas` are the
controllers, `process` runs them in one event loop, `web` is its entry over HTTP.
"""
