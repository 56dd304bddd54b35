"""Opportunity sync: Dynamics 365 / Dataverse to a validated DuckDB release.

Stages, in the order data flows: extract, warehouse, validate, publish.
"""

__version__ = "0.1.0"
