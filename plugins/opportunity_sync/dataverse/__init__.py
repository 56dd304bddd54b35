"""Dataverse Web API: tokens, requests, table metadata, and the errors of all three."""
