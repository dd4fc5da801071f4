"""The functions on AWS: a few lines each, over the same services, pipeline and events as on one machine.

A handler is named `postroom.entrypoints.lambdas.<file>.<function>` in the stack (infra/functions.py), and imports no more than it
needs: what a function imports, its first caller waits for.
"""
