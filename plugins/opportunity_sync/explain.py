"""Why an opportunity has its account and its contact roles, for a person or a machine."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any
from uuid import UUID

from opportunity_sync.data_root import open_data_root
from opportunity_sync.errors import UnknownOpportunityError
from opportunity_sync.release import live_release
from opportunity_sync.settings import Settings

if TYPE_CHECKING:
    from duckdb import DuckDBPyConnection

NOUNS = {"opportunities": "opportunity", "contacts": "contact", "accounts": "account", "connections": "connection"}

HEADINGS = {
    1: "Opportunity as read",
    2: "Merges of the customer",
    3: "Customer",
    4: "Merges of the customer's account",
    5: "Account rule",
    6: "Primary contact role",
    7: "Connections",
}
"""Headings of the steps of `opportunity_explanations`."""


def explain(settings: Settings, opportunity_id: str) -> dict[str, Any]:
    """Explain one opportunity of the live release, ready for JSON: times are ISO 8601 in UTC.

    Returns:
        `release_id`, `opportunity` (its id, name, account, rule, customer), `contact_roles` and `steps`.

    Raises:
        UnknownOpportunityError: the id is no GUID, or no opportunity of the live release.
        ReleaseError: the live file is damaged.
    """
    import duckdb

    root = open_data_root(settings.data)
    release = live_release(root)
    try:
        key = UUID(opportunity_id)
    except ValueError:
        raise _unknown(f"{opportunity_id!r} is not the id of an opportunity", "Give its GUID") from None
    if release is None:
        raise _unknown("There is no release yet", "Run the DAG opportunity_sync first")
    with duckdb.connect(str(root.live_file), read_only=True) as connection:
        return {"release_id": release.release_id, **facts(connection, key)}


def facts(connection: DuckDBPyConnection, key: UUID) -> dict[str, Any]:
    """What explains one opportunity, as `explain` gives it, from a release that is open already.

    Raises:
        UnknownOpportunityError: no opportunity of this release has that id.
    """
    found = _rows(
        connection,
        """
        select
            opportunity_id, name, account_id, account_name, account_rule, customer_id, customer_type,
            modified_at, version_number
        from opportunities where opportunity_id = ?
        """,
        key,
    )
    if not found:
        raise _gone(connection, key)
    roles = _rows(
        connection,
        """
        select contact_id, full_name, role, role_source, is_primary, connected_at
        from opportunity_contact_roles left join contacts using (contact_id)
        where opportunity_id = ? order by is_primary desc, role, contact_id
        """,
        key,
    )
    steps = _rows(
        connection,
        """
        select step, topic, relation, id, outcome, explanation, raw_batch, read_at
        from opportunity_explanations where opportunity_id = ? order by step, position, id
        """,
        key,
    )
    return {"opportunity": found[0], "contact_roles": roles, "steps": steps}


def lines(found: dict[str, Any]) -> list[str]:
    """What `explain` found, as text for a terminal."""
    opportunity = found["opportunity"]
    account = opportunity["account_name"] or "(not extracted)"
    text = [
        f"{opportunity['name'] or '(no name)'}",
        f"opportunity    {opportunity['opportunity_id']}, release {found['release_id']}",
        "account        " + (f"{account}, {opportunity['account_id']}" if opportunity["account_id"] else "none"),
        f"rule           {opportunity['account_rule']}",
    ]
    for role in found["contact_roles"]:
        primary = ", primary" if role["is_primary"] else ""
        text.append(f"contact role   {role['role']}: {role['full_name'] or '(no name)'}, {role['contact_id']}{primary}")
    if not found["contact_roles"]:
        text.append("contact role   none")
    shown = 0
    for step in found["steps"]:
        if step["step"] != shown:
            shown = step["step"]
            text += ["", HEADINGS[shown]]
        mark = "+" if step["outcome"] in ("applies", "gives_role") else " "
        subject = (
            "" if step["topic"] == "account_rule" else f"{NOUNS.get(step['relation'], step['relation'])} {step['id']}: "
        )
        text.append(f"{mark} {subject}{step['explanation']}")
        if step["raw_batch"]:
            text.append(f"    read {step['read_at']}, batch {step['raw_batch']}")
    return text


def _rows(connection: DuckDBPyConnection, query: str, key: UUID) -> list[dict[str, Any]]:
    result = connection.execute(query, [key])
    names = [column[0] for column in result.description or ()]
    return [dict(zip(names, map(_plain, row), strict=True)) for row in result.fetchall()]


def _plain(value: Any) -> Any:
    if isinstance(value, UUID):
        return str(value)
    if isinstance(value, datetime):
        return value.replace(tzinfo=UTC).isoformat(timespec="seconds").replace("+00:00", "Z")
    return value


def _gone(connection: DuckDBPyConnection, key: UUID) -> UnknownOpportunityError:
    """Say whether an opportunity was ever published."""
    ((until,),) = connection.execute(
        "select max(valid_to) from opportunities_history where opportunity_id = ?", [key]
    ).fetchall()
    if until is None:
        return _unknown(
            f"Opportunity {key} is in no release since the history began",
            "Look it up in Dynamics: it may be deleted, excluded by the sync filter, or not readable for us",
        )
    return _unknown(
        f"Opportunity {key} is not in the live release; releases before {_plain(until)} had it",
        f"See what it was: select * from opportunities_history where opportunity_id = '{key}'",
    )


def _unknown(what: str, action: str) -> UnknownOpportunityError:
    return UnknownOpportunityError(what, state="Nothing was changed", action=action)
