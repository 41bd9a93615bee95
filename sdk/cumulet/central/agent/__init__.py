"""The agent: what a cluster runs to be under a hub. Outbound only, small, and at peace with bad links.

`config` is agent.yaml, `vault` what it keeps on disk, `enrol` keys and certificates (a
program of its own), `registration` how it becomes known, `session` what it does while
it is in touch, `works` applies what the hub sends, `process` keeps it all going.
"""
