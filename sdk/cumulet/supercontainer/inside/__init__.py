"""What runs in the containers of a super container: Python's standard library and nothing else.

`setting` is what a container has been told, `values` makes bytes of results, `wire` is how members talk,
`deliver` hands a result over, `collect` takes results in on the merging member, `spool` keeps them, `merges`
makes one of them, `door` lets whoever looks after it fetch that one. `life` is what a task sees of all this.
"""
