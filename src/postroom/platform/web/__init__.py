"""Calling web servers of others, whose addresses are given by people who must not reach our own network with them."""
