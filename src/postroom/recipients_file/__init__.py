"""Recipients files, parsed without I/O: encoding, delimiter, header, records, columns."""
