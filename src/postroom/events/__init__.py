"""Inbound events: bounces, complaints, opens, clicks and unsubscribes, from mail, SES and HTTP, into the records."""
