"""Storage, mail and web: the ports, their two backends (embedded, aws), mail transports (mail) and outgoing HTTP (web)."""
