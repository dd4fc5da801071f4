"""The processes of `postroom serve`, and the worker processes of `postroom send`."""
