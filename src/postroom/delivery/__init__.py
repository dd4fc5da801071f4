"""Makes the message of one recipient, and decides what its result means.

compose        one recipient's message, from a template compiled once per campaign
transactional  the same for transactional messages
mime, headers  body structure and encodings; header fields
dkim           signatures
tracking       links, the open pixel, the unsubscribe address
outcome        what the provider's answer makes of a message, and when to retry
"""
