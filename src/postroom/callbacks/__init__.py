"""Telling tenants' own systems what happened: from the feed to deliveries, and from those to signed requests."""
