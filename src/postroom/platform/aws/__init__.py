"""The ports kept on Amazon Web Services."""
