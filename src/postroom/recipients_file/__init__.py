"""A recipients file as people upload it, understood without I/O: encoding, delimiter, header, records, which column is which."""
