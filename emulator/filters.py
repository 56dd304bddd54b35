"""`$filter` and `$orderby` to SQL over stored rows; the OData text is parsed by the odata-query library."""

from __future__ import annotations

import re
from datetime import UTC, datetime

from odata_query import ast
from odata_query.exceptions import ODataException
from odata_query.grammar import ODataLexer, ODataParser

from .errors import ApiError, bad_query, no_property, not_spoken
from .model import NUMBERS, Column, Table
from .store import comparable

_OPERATORS = {ast.Eq: "=", ast.NotEq: "<>", ast.Lt: "<", ast.LtE: "<=", ast.Gt: ">", ast.GtE: ">="}
_MIRRORED = {"<": ">", "<=": ">=", ">": "<", ">=": "<="}
_TEXT_MATCH = {"contains": "%{}%", "startswith": "{}%", "endswith": "%{}"}
Sql = tuple[str, list[object]]


def parse(text: str) -> ast._Node:
    """The filter's syntax tree.

    Raises:
        ApiError: 400 when it is not OData.
    """
    try:
        return ODataParser().parse(ODataLexer().tokenize(text))
    except ODataException as error:
        raise bad_query(f"Syntax error in '{text}': {error}") from error


def filter_sql(table: Table, text: str) -> Sql:
    """A WHERE clause and its parameters.

    Raises:
        ApiError: 400 for a syntax error or an unknown property, 501 for a function not spoken.
    """
    return _condition(table, parse(text))


def order_sql(table: Table, text: str) -> str:
    """An ORDER BY clause, made unique by the key."""
    parts = []
    for item in text.split(","):
        match = re.fullmatch(r"\s*(\w+)(?:\s+(asc|desc))?\s*", item)
        if match is None:
            raise bad_query(f"Syntax error in $orderby '{text}'.")
        parts.append(f"{_expression(table, _column(table, match[1]))} {match[2] or 'asc'}")
    return ", ".join([*parts, "id"])


def _column(table: Table, name: str) -> Column:
    column = table.properties.get(name)
    if column is None or column.type in ("Virtual", "ManagedProperty"):
        raise no_property(name, table.name)
    return column


def _expression(table: Table, column: Column) -> str:
    if column.name == table.primary_id:
        return "id"
    if column.name == "versionnumber":
        return "version"
    if column.name == "modifiedon":
        return "modified"
    raw = f"json_extract(body, '$.\"{column.property}\"')"
    if column.type == "DateTime" and column.behavior != "DateOnly":
        return f"strftime('%Y-%m-%dT%H:%M:%fZ', {raw})"
    return raw


def _condition(table: Table, node: ast._Node) -> Sql:
    if isinstance(node, ast.BoolOp):
        # One pair of brackets for a chain of the same operator: SQLite's parser takes no hundred nested ones.
        parts = [_condition(table, part) for part in _chain(node, type(node.op))]
        word = "and" if isinstance(node.op, ast.And) else "or"
        return f"({f' {word} '.join(sql for sql, _ in parts)})", [value for _, values in parts for value in values]
    if isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.Not):
        inner = _condition(table, node.operand)
        return f"(not {inner[0]})", inner[1]
    if isinstance(node, ast.Compare):
        return _comparison(table, node)
    if isinstance(node, ast.Call):
        return _call(table, node)
    if isinstance(node, ast.Identifier):
        return _comparison(table, ast.Compare(ast.Eq(), node, ast.Boolean("true")))
    raise not_spoken(f"{type(node).__name__} in $filter")


def _chain(node: ast._Node, operator: type) -> list[ast._Node]:
    """The operands of `a or b or c`, which is parsed as `(a or b) or c`."""
    parts = []
    while isinstance(node, ast.BoolOp) and isinstance(node.op, operator):
        parts.append(node.right)
        node = node.left
    return [node, *reversed(parts)]


def _comparison(table: Table, node: ast.Compare) -> Sql:
    operator = _OPERATORS.get(type(node.comparator))
    if operator is None:
        raise not_spoken(f"the operator '{type(node.comparator).__name__.lower()}' in $filter")
    left, right = node.left, node.right
    for side in (left, right):
        if isinstance(side, ast.Call):
            raise not_spoken(f"the function '{side.func.full_name()}' in $filter")
    if not isinstance(left, ast.Identifier):
        left, right, operator = right, left, _MIRRORED.get(operator, operator)
    if not isinstance(left, ast.Identifier):
        raise not_spoken("computed or related-table expressions in $filter")
    column = _column(table, left.name)
    expression = _expression(table, column)
    if isinstance(right, ast.Null):
        if operator not in ("=", "<>"):
            raise bad_query("null can only be compared with eq and ne.")
        return f"({expression} is {'not ' if operator == '<>' else ''}null)", []
    if isinstance(right, ast.Identifier):
        other = _expression(table, _column(table, right.name))
        return f"coalesce({expression} {operator} {other}, 0)", []
    value = _literal(column, right)
    collate = " collate nocase" if isinstance(value, str) and column.type in ("String", "Memo") else ""
    if column.name in (table.primary_id, "versionnumber", "modifiedon"):
        return f"({expression} {operator} ?)", [value]
    if operator in ("=", "<>") and (column.property.startswith("_") or column.type == "Uniqueidentifier"):
        ids = [value, str(value).upper()]  # ids are stored as they came
        return f"coalesce({expression} {'not ' if operator == '<>' else ''}in (?, ?), {int(operator == '<>')})", ids
    # OData: null ne 5 is true, every other comparison with null is false.
    return f"coalesce({expression} {operator} ?{collate}, {int(operator == '<>')})", [value]


def _literal(column: Column, node: ast._Node) -> object:
    """The literal as SQLite compares it with this column; a literal of another type is refused."""
    kind = column.type
    if isinstance(node, ast.DateTime | ast.Date) and kind == "DateTime":
        return _moment(column, node.val)
    if isinstance(node, ast.GUID) and (kind == "Uniqueidentifier" or column.property.startswith("_")):
        return node.val.lower()
    if isinstance(node, ast.Boolean) and kind == "Boolean":
        return int(node.py_val)
    if isinstance(node, ast.Integer | ast.Float) and kind in NUMBERS | {"Picklist", "State", "Status"}:
        return node.py_val
    if isinstance(node, ast.String):
        if kind in ("String", "Memo", "EntityName"):
            return node.val
        if kind == "Uniqueidentifier" or column.property.startswith("_"):
            return node.val.lower()
    raise bad_query(
        "A binary operator with incompatible types was detected. "
        f"The literal does not fit the property '{column.property}' ({kind})."
    )


def _moment(column: Column, text: str) -> str:
    try:
        moment = datetime.fromisoformat(text)
    except ValueError as error:
        raise bad_query(f"'{text}' is not a date or time.") from error
    if column.behavior == "DateOnly":
        return moment.date().isoformat()
    aware = moment if moment.tzinfo else moment.replace(tzinfo=UTC)
    return comparable(aware.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z"))


def _call(table: Table, node: ast.Call) -> Sql:
    pattern = _TEXT_MATCH.get(node.func.name)
    if pattern is None or len(node.args) != 2:
        raise not_spoken(f"the function '{node.func.full_name()}' in $filter")
    subject, value = node.args
    if not isinstance(subject, ast.Identifier) or not isinstance(value, ast.String):
        raise not_spoken(f"nested expressions in '{node.func.name}'")
    escaped = re.sub(r"([%_\\])", r"\\\1", value.val)
    expression = _expression(table, _column(table, subject.name))
    return f"coalesce({expression} like ? escape '\\', 0)", [pattern.format(escaped)]


def matches(node: ast._Node, item: dict[str, object], type_name: str) -> bool:
    """Evaluate a filter on one metadata object (`eq`, `ne`, `and`, `or`, `not` on its plain properties)."""
    if isinstance(node, ast.BoolOp):
        left, right = matches(node.left, item, type_name), matches(node.right, item, type_name)
        return (left and right) if isinstance(node.op, ast.And) else (left or right)
    if isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.Not):
        return not matches(node.operand, item, type_name)
    if isinstance(node, ast.Compare) and isinstance(node.left, ast.Identifier):
        if node.left.name not in item:
            raise no_property(node.left.name, type_name)
        value = item[node.left.name]
        literal = node.right
        if isinstance(literal, ast.Call) and literal.args:
            literal = literal.args[0]  # Microsoft.Dynamics.CRM.AttributeTypeCode'Picklist' is parsed elsewhere
        wanted = getattr(literal, "py_val", getattr(literal, "val", None))
        if isinstance(literal, ast.GUID):
            wanted, value = literal.val.lower(), str(value).lower()
        if isinstance(node.comparator, ast.Eq):
            return value == wanted
        if isinstance(node.comparator, ast.NotEq):
            return value != wanted
    raise ApiError(501, "0x80060892", "The stand-in does not speak this $filter on table definitions.")
