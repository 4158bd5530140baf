"""JSON Schema 2020-12 of our types, as a reader or as a writer has them.

A reader's schema names the fields that it needs. A writer's names every field that it always writes: a client may rely
on more than a reader demands. Patterns are written for ECMA-262, where ``$`` is the end of the text.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import msgspec
from msgspec import UNSET, Struct, inspect

DIALECT = "https://json-schema.org/draft/2020-12/schema"
Schema = dict[str, Any]


def components(
    *, read: Iterable[type] = (), written: Iterable[type] = (), template: str = "#/$defs/{name}"
) -> dict[str, Schema]:
    """Return the schemas of all types, and of the types within them, by name.

    Raises ValueError when two different types have one name.
    """
    found: dict[str, Schema] = {}
    for types, as_written in ((tuple(read), False), (tuple(written), True)):
        _, schemas = msgspec.json.schema_components(types, ref_template=template)
        structs = {kind.__name__: kind for kind in _structs(inspect.multi_type_info(types))}
        for name, schema in schemas.items():
            made = _portable(_as_written(schema, structs[name]) if as_written and name in structs else schema)
            if found.setdefault(name, made) != made:
                raise ValueError(f"two types have the name {name}")
    return dict(sorted(found.items()))


def document(kind: type[Struct], id_: str, *, written: bool) -> Schema:
    """Return a schema that stands alone."""
    defs = components(written=(kind,)) if written else components(read=(kind,))
    return {"$schema": DIALECT, "$id": id_, "$ref": f"#/$defs/{kind.__name__}", "$defs": defs}


def inline(kind: Any) -> Schema:
    """Return the schema of a type without structs."""
    schema: Schema = _portable(msgspec.json.schema(kind))
    return schema


def _as_written(schema: Schema, kind: type[Struct]) -> Schema:
    config = kind.__struct_config__
    always = {
        field.encode_name
        for field in msgspec.structs.fields(kind)
        if field.default is not UNSET and (field.required or not config.omit_defaults)
    }
    properties = {
        name: {key: value for key, value in field.items() if key != "default"}
        for name, field in schema["properties"].items()
    }
    required = [name for name in properties if name in always or name == config.tag_field]
    return {**schema, "properties": properties, "required": required}


def _structs(types: Iterable[inspect.Type]) -> Iterator[type[Struct]]:
    waiting, seen = list(types), set[type]()
    while waiting:
        match waiting.pop():
            case inspect.StructType(cls=kind, fields=fields):
                if kind not in seen:
                    seen.add(kind)
                    waiting += [field.type for field in fields]
                    yield kind
            case inspect.UnionType(types=inner):
                waiting += inner
            case inspect.Metadata(type=item) | inspect.ListType(item_type=item) | inspect.VarTupleType(item_type=item):
                waiting.append(item)
            case inspect.DictType(key_type=key, value_type=value):
                waiting += [key, value]


def _portable(value: Any) -> Any:
    """Return a schema with patterns of ECMA-262 and descriptions in Markdown."""
    if isinstance(value, Mapping):
        return {key: _text(key, inner) if isinstance(inner, str) else _portable(inner) for key, inner in value.items()}
    return [_portable(inner) for inner in value] if isinstance(value, list | tuple) else value


def _text(key: str, text: str) -> str:
    if key == "pattern":
        return text.replace(r"\Z", "$")
    return text.replace("``", "`") if key == "description" else text
