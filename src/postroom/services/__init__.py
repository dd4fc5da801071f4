"""The verbs behind the command line and the API: what a user asks for."""
