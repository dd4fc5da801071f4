"""The promises Postroom's core relies on, one file a port, each in prose first.

Every port is synchronous: both homes' libraries (sqlite3, boto3) are, and a caller on an event loop keeps a thread for
them (docs/adr/0002). Every method raises only kinds from `postroom.errors`: `Unavailable` and `StorageFull` may come from
any of them, the others stand at the method. An adapter retries reads and conditional writes that it can prove harmless;
all other retries are the caller's. One conformance suite a port (tests/contract) says the same in code and runs on both homes.
"""
