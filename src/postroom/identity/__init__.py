"""The built-in OpenID provider: who people are. The door only verifies its tokens, so that any other provider can replace it."""
