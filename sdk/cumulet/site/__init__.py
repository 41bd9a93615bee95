"""A site: its document, its bring-up, its life. `Site` is the way in; the rest is how it works.

`model` is site.yaml, `facts` what the devices are like, `check` whether they will do,
`plan` (with `kubeadm` and `k3s`) what is to be done, `act` does it. `ssh` reaches the
devices, `keeper` holds the lock and the journal.
"""

from cumulet.site.site import Outcome, Site

__all__ = ["Outcome", "Site"]
