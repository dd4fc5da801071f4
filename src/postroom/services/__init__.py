"""The operations behind the command line and the API."""
