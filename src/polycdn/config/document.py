"""The dialect as a JSON Schema, so that editors complete and check `polycdn.toml`."""

from typing import Any, Final

from polycdn.config.dialect import short_keys, table_of
from polycdn.config.quantity import Unit
from polycdn.config.schema import Root
from polycdn.config.table import Table

DRAFT: Final = "https://json-schema.org/draft/2020-12/schema"


def json_schema() -> dict[str, Any]:
    """JSON Schema of the whole file. What lies between tables (references, sums) it cannot tell."""
    schema = Root.model_json_schema()
    definitions = schema.get("$defs", {})
    for table in _tables(Root, {}).values():
        _widen(schema if table is Root else definitions[table.__name__], table)
    return {"$schema": DRAFT, **schema}


def _tables(table: type[Table], found: dict[str, type[Table]]) -> dict[str, type[Table]]:
    found[table.__name__] = table
    for info in table.model_fields.values():
        inner = table_of(info)
        if inner and inner.__name__ not in found:
            _tables(inner, found)
    return found


def _widen(schema: dict[str, Any], table: type[Table]) -> None:
    """Adds what `dialect.py` allows besides: quantities as texts, and a text in place of a table."""
    properties = schema["properties"]
    for short, choices in short_keys(table).items():
        description = " ".join(
            dict.fromkeys(properties[name].get("description", "") for name, _unit in choices)
        )
        properties[short] = {
            "description": description,
            "examples": [unit.example for _name, unit in choices],
            "pattern": "|".join(_pattern(unit) for _name, unit in choices),
            "type": "string",
        }
    for name, info in table.model_fields.items():
        inner = table_of(info)
        if inner and inner.SHORT:
            properties[name] = _or_text(properties[name], inner)


def _pattern(unit: Unit) -> str:
    names = "|".join(name.replace("/", "\\/") for name, _factor in unit.scale)
    return f"^\\s*[0-9]+(\\.[0-9]+)?\\s*({names})\\s*$"


def _or_text(schema: dict[str, Any], inner: type[Table]) -> dict[str, Any]:
    text = {"type": "string", "description": f"Short for {{ {inner.SHORT} = ... }}."}
    reference = {"$ref": f"#/$defs/{inner.__name__}"}
    if schema.get("type") == "array" or any(kind.get("type") == "array" for kind in schema.get("anyOf", [])):
        kept = {key: value for key, value in schema.items() if key not in ("anyOf", "items", "default")}
        return {**kept, "type": "array", "items": {"anyOf": [reference, text]}}
    kept = {key: value for key, value in schema.items() if key not in ("anyOf", "$ref", "default")}
    return {**kept, "anyOf": [reference, text]}
