"""Pure data and rules of the domain: no I/O, no clock, no library of the platform."""
