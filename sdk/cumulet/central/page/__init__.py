"""The hub's page in the browser: what is below it by tier, who wants in, what is rolled out.

`view` and `usage` make what is shown from what the hub knows (pure), `users` asks the API server who a token is and
what it may do, `routes` puts both behind HTTP, `deploy` makes the objects of a roll-out, `assets` is what the browser
loads.
"""

from cumulet.central.page.routes import add_page

__all__ = ["add_page"]
