"""Rights of each role in Kafka, as topics.yaml gives them."""

from __future__ import annotations

from audit.topic_checks import TOPICS
from domain.acls import AUDITED, CHECKED, RECEIPTS, Acl, declared, differences, principals
from gateway.dispatcher import GROUP
from ingest import store_check
from schemas.events import ReceiptRecorded
from schemas.topics import OUTSIDE, load, stages
from streams.stages import status

ALL = load()
PATTERN = "User:{role}"


def rights(role: str) -> set[tuple[str, str, str]]:
    mine = {acl for acl in declared(ALL, PATTERN) if acl.principal == f"User:{role}"}
    return {(acl.operation, acl.resource, acl.name) for acl in mine}


def test_who_writes_and_reads_a_topic_may_and_nobody_else():
    roles = {"relay": "ingest", "operators": "operator"}
    for topic in ALL:
        writers = {
            acl.principal for acl in declared(ALL, PATTERN) if (acl.operation, acl.name) == ("WRITE", topic.name)
        }
        assert writers == {f"User:{roles.get(writer, writer)}" for writer in topic.writers}
        for reader in topic.readers:
            assert ("READ", "TOPIC", topic.name) in rights(roles.get(reader, reader))
    for role in (*stages(), "gateway"):
        read = {name for operation, resource, name in rights(role) if (operation, resource) == ("READ", "TOPIC")}
        assert read == {topic.name for topic in ALL if role in topic.readers}


def test_a_reader_is_a_member_of_its_own_group_alone():
    for role in (*stages(), "gateway", "ingest", "audit", "operator"):
        groups = {name for operation, resource, name in rights(role) if (operation, resource) == ("READ", "GROUP")}
        assert groups == ({role} if role in (*stages(), GROUP) else set())
    assert Acl("User:data", "GROUP", "data-", "READ", "PREFIXED") in declared(ALL, PATTERN)


def test_only_the_setup_changes_topics_and_nobody_the_cluster():
    changing = {
        acl.principal for acl in declared(ALL, PATTERN) if acl.operation in ("ALTER_CONFIGS", "ALTER", "DELETE")
    }
    assert changing == {"User:setup"}
    assert {acl.resource for acl in declared(ALL, PATTERN)} == {"TOPIC", "GROUP"}


def test_what_is_named_here_is_what_others_use():
    assert set(AUDITED) == set(TOPICS)
    assert set(CHECKED) == set(store_check.TOPICS)
    assert ReceiptRecorded.TOPIC == RECEIPTS
    assert status.__name__.rpartition(".")[2] in stages()
    assert {"data", "operators"} == OUTSIDE


def test_the_principals_follow_their_template():
    assert "User:CN=gateway.chat" in principals(ALL, "User:CN={role}.chat")
    assert principals(ALL, "User:millrace") == {"User:millrace"}
    shared = declared(ALL, "User:millrace")
    assert len(shared) == len({(acl.resource, acl.name, acl.operation, acl.pattern) for acl in shared})


def test_rights_of_other_principals_are_nobodys_business():
    wanted = {Acl("User:a", "TOPIC", "t", "READ"), Acl("User:a", "TOPIC", "t", "WRITE")}
    mine, others = Acl("User:a", "TOPIC", "u", "READ"), Acl("User:b", "TOPIC", "t", "READ")
    found = [Acl("User:a", "TOPIC", "t", "READ"), mine, others]
    missing, extra = differences(wanted, found, frozenset({"User:a"}))
    assert missing == [Acl("User:a", "TOPIC", "t", "WRITE")]
    assert extra == [mine]
    assert differences(wanted, wanted, frozenset({"User:a"})) == ([], [])
