"""The HTTP API: authentication, limits, idempotency, audit, routes and schemas."""
