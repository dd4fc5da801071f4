"""Logs, metrics, traces, alerts."""
