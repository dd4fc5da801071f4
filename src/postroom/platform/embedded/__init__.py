"""The ports kept on one machine: SQLite and files."""
