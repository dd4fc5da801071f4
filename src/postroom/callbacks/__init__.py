"""Webhooks to tenants' systems: the feed's changes become deliveries, and deliveries become signed HTTP requests."""
