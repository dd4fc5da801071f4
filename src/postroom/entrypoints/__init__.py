"""Where processes begin: command line, workers, server."""
