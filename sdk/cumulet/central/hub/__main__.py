"""`python3 -m cumulet.central.hub run`: the hub in a container that has the SDK only."""

from __future__ import annotations

import sys

from cumulet.central.hub.service import main

if __name__ == "__main__":
    sys.exit(main())
