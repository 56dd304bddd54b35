"""A stand-in for Dynamics 365 (Dataverse Web API) and its Entra authority, for the quick start and the tests."""
