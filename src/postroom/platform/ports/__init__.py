"""The promises Postroom's core relies on, one file for each port: prose first, then the protocol, then the checks and arithmetic
that both backends share.

Every port is synchronous, because both backends' libraries (sqlite3, boto3) are; a caller on an event loop needs a thread
(docs/adr/0002). Methods raise only errors from `postroom.errors`. Any method may raise `Unavailable` or `StorageFull`; other
errors are named at the method. An adapter retries reads and conditional writes that it can prove harmless; the caller does all
other retries. One conformance suite for each port (tests/contract) says the same in code and runs on both backends.
"""
