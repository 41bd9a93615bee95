"""Tasks that the centre wants at this site: read from the cluster, given places by the packing rule, told back.

A `Task` is what a hub's work puts into a site. `facts` reads tasks and what runs of them, `judge` says how each is
and what is to be done, `process` does it and writes the task's status, `install` puts it onto a control node.
"""

from cumulet.dispatch.install import install, make_objects
from cumulet.dispatch.process import Dispatcher

__all__ = ["Dispatcher", "install", "make_objects"]
