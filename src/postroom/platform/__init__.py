"""What Postroom stands on: promises (ports), their two homes (embedded, aws) and how mail leaves (mail)."""
