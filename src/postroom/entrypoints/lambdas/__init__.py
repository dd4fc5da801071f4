"""The functions on AWS: a few lines each, over the same services, pipeline and events as on one machine.

The stack names a handler `postroom.entrypoints.lambdas.<file>.<function>` (infra/functions.py). A handler imports no more than it
needs: its first caller waits for its imports.
"""
