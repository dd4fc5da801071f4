"""After "send": splitter, scheduler, sender. They meet only through the ports and the ledger, never by import."""
