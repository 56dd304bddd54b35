"""Marketo Engage REST API: tokens, calls within the limits, what its objects are, and the errors of all three."""
