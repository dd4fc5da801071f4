"""The built-in OpenID Connect provider: users, sign-in and tokens. The API only verifies tokens; any provider can replace it."""
