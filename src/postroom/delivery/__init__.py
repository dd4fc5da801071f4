"""One message: compose, tracking, outcome, retry."""
