"""Postroom: an email platform that its users own. ARCHITECTURE.md is the map."""

__version__ = "0.1.0"
