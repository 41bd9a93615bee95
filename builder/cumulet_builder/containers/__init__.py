"""Container images of the AI runtimes, from Debian packages and Python wheels: described in recipes/containers.

A device's image is not needed for them, nor any other builder of containers. The same stages as for devices make
the tree; what is not asked for, directly or by what is asked for, stays out: no shell's friends, no package manager.
"""
