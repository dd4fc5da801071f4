"""What requests and answers look like on the wire, one module a service; the routes turn them into the services' own words."""
