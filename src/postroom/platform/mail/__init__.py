"""How mail leaves (SMTP, later SES) and the built-in inbox: the same on either platform."""
