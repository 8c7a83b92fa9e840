"""Incoming webhooks of forums, and outgoing events."""
