"""The exported schemas: they follow the types, they are valid, and they say what readers may rely on."""

from __future__ import annotations

import json
import re
from copy import deepcopy
from pathlib import Path
from typing import Any, get_args

import jsonschema_rs
import msgspec
import pytest
from openapi_spec_validator import OpenAPIV31SpecValidator

from domain import errors
from schemas import export
from schemas.events import EVENTS, ConversationCounted, MediaProcessed, ReceiptRecorded
from schemas.fields import ErrorCode
from schemas.ids import UUID_PATTERN, new_id
from schemas.json_schema import components, document
from schemas.openapi import openapi
from schemas.routes import OPERATIONS
from tests import make

ASYNCAPI = Path(__file__).parents[1] / "vendor" / "asyncapi" / "3.0.0.json"
DOCUMENTS = {path: json.loads(path.read_bytes()) for path in sorted(export.FOLDER.glob("*/*.json"))}


def test_what_is_committed_follows_the_types(capsys):
    assert export.main(["--check"]) == 0, capsys.readouterr().err


def test_drift_is_a_file_that_is_missing_changed_or_left_over(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(export, "FOLDER", tmp_path)
    assert "openapi.json" in export.drift()
    export.write()
    assert export.drift() == []
    (tmp_path / "events" / "old.v1.json").write_text("{}")
    (tmp_path / "openapi.json").write_text("{}")
    assert export.main(["--check"]) == 1
    assert "events/old.v1.json, openapi.json" in capsys.readouterr().err
    assert export.main([]) == 0
    assert export.drift() == []


def test_the_openapi_document_is_valid():
    assert list(OpenAPIV31SpecValidator(openapi()).iter_errors()) == []


def test_a_wrong_openapi_document_is_found():
    broken = deepcopy(openapi())
    del broken["paths"]["/messages"]["post"]["responses"]["201"]["description"]
    assert list(OpenAPIV31SpecValidator(broken).iter_errors())


def test_the_asyncapi_document_is_valid_and_a_wrong_one_is_found():
    official = jsonschema_rs.validator_for(json.loads(ASYNCAPI.read_bytes()))
    document = json.loads((export.FOLDER / "asyncapi.json").read_bytes())
    assert [str(error)[:200] for error in official.iter_errors(document)] == []
    document["channels"]["message.created"]["bindings"]["kafka"]["partitions"] = "many"
    assert not official.is_valid(document)


def test_every_reference_of_the_asyncapi_document_is_there():
    document = json.loads((export.FOLDER / "asyncapi.json").read_bytes())
    for reference in set(re.findall(r'"#/([^"]+)"', json.dumps(document))):
        found: Any = document
        for part in reference.split("/"):
            found = found[part]


@pytest.mark.parametrize("path", DOCUMENTS, ids=lambda path: f"{path.parent.name}/{path.stem}")
def test_each_schema_is_json_schema_2020_12(path: Path):
    jsonschema_rs.meta.validate(DOCUMENTS[path])
    assert DOCUMENTS[path]["$schema"] == "https://json-schema.org/draft/2020-12/schema"
    assert jsonschema_rs.validator_for(DOCUMENTS[path])


def test_ids_of_schemas_are_unique():
    ids = [document["$id"] for document in DOCUMENTS.values()]
    assert len(ids) == len(set(ids))


def test_patterns_are_those_of_javascript_too():
    texts = [path.read_text() for path in export.FOLDER.rglob("*.json")]
    assert not any(r"\\Z" in text for text in texts)
    assert any(json.dumps(UUID_PATTERN.replace(r"\Z", "$")) in text for text in texts)


ID = new_id()
EXAMPLES = [
    make.created(content="Zoë", attachments=(ID,), reply_to=ID),
    make.sent(),
    make.member_added(3),
    make.member_added(0, change="created", title=None, members=("alice", "bob")),
    ReceiptRecorded(conversation_id=ID, user_id="bob", delivered_seq=2, at=make.AT),
    MediaProcessed(conversation_id=ID, seq=4, message_id=ID, media_id=ID, media_type="image/png", at=make.AT),
    ConversationCounted(conversation_id=ID, minute=make.AT, messages=3, at=make.AT),
]


@pytest.mark.parametrize("event", EXAMPLES, ids=lambda event: event.TOPIC)
def test_an_event_is_what_its_schema_says_and_no_field_may_be_missing(event):
    schema = DOCUMENTS[export.FOLDER / "events" / f"{event.TOPIC}.v{event.VERSION}.json"]
    validator = jsonschema_rs.Draft202012Validator(schema, validate_formats=True)
    value = json.loads(msgspec.json.encode(event))
    validator.validate(value)
    for name in value:
        assert not validator.is_valid({key: other for key, other in value.items() if key != name}), name
    assert validator.is_valid({**value, "later": 1})


@pytest.mark.parametrize("kind", EVENTS)
def test_a_reader_needs_no_more_than_a_writer_always_writes(kind):
    read, written = components(read=(kind,)), components(written=(kind,))
    assert read.keys() == written.keys()
    for name, schema in read.items():
        if "properties" not in schema:
            continue  # an enum
        assert set(schema["required"]) <= set(written[name]["required"])
        assert set(written[name]["required"]) == set(written[name]["properties"])


def test_a_field_that_may_be_left_out_is_not_required():
    class Frame(msgspec.Struct, tag="frame", rename="camel"):
        """A frame, with ``ref``."""

        always: int = 0
        some_ref: str | msgspec.UnsetType = msgspec.UNSET

    made = document(Frame, "urn:test", written=True)["$defs"]["Frame"]
    assert made["required"] == ["type", "always"]
    assert made["properties"]["type"] == {"enum": ["frame"]} or made["properties"]["type"]["const"] == "frame"
    assert made["description"] == "A frame, with `ref`."


def test_two_types_of_one_name_are_refused():
    first, second = (msgspec.defstruct("Same", [("x", kind)]) for kind in (int, str))
    with pytest.raises(ValueError, match="Same"):
        components(read=(first,), written=(second,))


def test_bodies_are_closed_and_answers_are_open():
    schemas = openapi()["components"]["schemas"]
    bodies = {operation.body.__name__ for operation in OPERATIONS if operation.body}
    assert {name for name, schema in schemas.items() if schema.get("additionalProperties") is False} == bodies


def test_the_codes_of_errors_are_documented():
    kinds = [kind for kind in vars(errors).values() if isinstance(kind, type) and issubclass(kind, Exception)]
    codes = {kind.code for kind in kinds if issubclass(kind, errors.MillraceError)}
    assert codes <= set(get_args(ErrorCode))
