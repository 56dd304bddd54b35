"""A stand-in for Adobe Marketo Engage (REST API v1 and its identity endpoint), for the quick start and the tests."""
