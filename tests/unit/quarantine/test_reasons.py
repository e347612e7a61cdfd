"""The reason's file: readable for people, read back whole, and never a traceback."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from mailferry.errors import QuarantineError
from mailferry.model import DeliveryState, QuarantineEntry, Uidl
from mailferry.quarantine.reasons import from_json, to_json
from support.quarantined import delivery, refused


@pytest.fixture
def entry() -> QuarantineEntry:
    given = refused()
    some = delivery(
        "vault",
        state=DeliveryState.ACCEPTED,
        receipt="250 ok",
        error="",
        accepted_recipients=("a@example.org", "b@example.org"),
    )
    return QuarantineEntry(
        name="0123456789abcdef",
        message=given.record,
        deliveries=(*given.deliveries, some),
        envelope_sender="ann@example.org",
        fetched_at=1_780_000_000.25,
        fetched_from="pop.example.org",
        fetched_with="POP3S",
        quarantined_at=1_780_000_002.125,
    )


def test_it_is_read_back_as_it_was_written(entry: QuarantineEntry) -> None:
    assert from_json(to_json(entry)) == entry
    accepted = replace(entry, message=replace(entry.message, accepted_at=1_780_000_003.5))
    assert from_json(to_json(accepted)) == accepted
    by_smtp = replace(entry, envelope_recipients=("a@example.org", "b@example.org"))
    assert from_json(to_json(by_smtp)) == by_smtp


def test_a_file_from_before_envelope_recipients_is_read(entry: QuarantineEntry) -> None:
    document = json.loads(to_json(replace(entry, envelope_recipients=("a@example.org",))))
    del document["envelope_recipients"]
    assert from_json(json.dumps(document).encode()) == entry
    document["envelope_recipients"] = "a@example.org"
    with pytest.raises(QuarantineError, match="a list should stand"):
        from_json(json.dumps(document).encode())


@pytest.mark.parametrize(
    "text",
    ["Привет", "line\r\nend \x00 \x1b[2J", "\x9b31m \u202e \u2066 \u2028", "lone \udc80 surrogate", '"\\'],
)
def test_any_text_survives_and_none_steers_a_terminal(entry: QuarantineEntry, text: str) -> None:
    hostile = replace(
        entry,
        message=replace(entry.message, subject=text),
        deliveries=(delivery(error=text, refused_recipients=(text,)),),
    )
    octets = to_json(hostile)
    assert from_json(octets) == hostile
    shown = octets.decode()
    assert not set(shown) & set("\r\x00\x1b\x9b\u202e\u2066\u2028")
    assert ("Привет" in shown) == (text == "Привет")


def test_a_unique_id_is_any_octets(entry: QuarantineEntry) -> None:
    octets = bytes(range(256))
    odd = replace(entry, message=replace(entry.message, uidl=Uidl(octets)))
    assert from_json(to_json(odd)).message.uidl == octets


def test_a_person_can_read_it(entry: QuarantineEntry) -> None:
    document = json.loads(to_json(entry))
    assert document["version"] == 1
    assert document["quarantined_at"] == "2026-05-28T20:26:42.125000Z"
    assert document["message"]["subject"] == "Привет"
    assert document["message"]["uidl"] == "uid-1"
    assert document["message"]["accepted_at"] is None
    assert document["deliveries"][0]["error"] == "end of data: 554 5.7.1 not here"
    assert to_json(entry).count(b"\n") > 30


def test_what_a_later_version_adds_is_passed_over(entry: QuarantineEntry) -> None:
    document = json.loads(to_json(entry))
    document["more"] = document["message"]["more"] = document["deliveries"][0]["more"] = [1]
    assert from_json(json.dumps(document).encode()) == entry


def test_another_version_is_told_as_such(entry: QuarantineEntry) -> None:
    document = json.loads(to_json(entry)) | {"version": 2}
    with pytest.raises(QuarantineError, match="written by another mailferry: its version is 2, not 1"):
        from_json(json.dumps(document).encode())


def test_every_way_of_damage_is_told_in_words(entry: QuarantineEntry) -> None:
    whole = to_json(entry)
    document = json.loads(whole)
    damaged = [whole[:cut] for cut in range(0, len(whole) - 2, 7)]
    damaged += [b"[" * 100_000, b"\xff\xfe", b"null", b"3", b"[]", b"{}", b'"x"', b'{"version": 1}']
    for table in (document, document["message"], document["deliveries"][0]):
        for key, value in list(table.items()):
            for wrong in ([], {}, "\x00?", 3.5, True, None, "9999-99-99", 10**400):
                if type(wrong) is type(value) or (wrong is None and key.endswith("_at")):
                    continue
                if table is document and key == "version":
                    continue
                table[key] = wrong
                damaged.append(json.dumps(document).encode())
            table[key] = value
    for octets in damaged:
        with pytest.raises(QuarantineError, match="damaged"):
            from_json(octets)


def test_a_file_of_nothing(tmp_path: Path) -> None:
    with pytest.raises(QuarantineError, match="damaged"):
        from_json(b"")
