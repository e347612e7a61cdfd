import pytest

from mailferry.sandbox.maildrop import SandboxFeatures, SandboxMaildrop, multi_line, top_of
from mailferry.sandbox.open_maildrop import OpenMaildrop, Refusal

ONE = b"Subject: one\r\n\r\nfirst\r\nsecond\r\nthird\r\n"
TWO = b"Subject: two\r\n\r\nno end"


@pytest.mark.parametrize(
    ("content", "wire"),
    [
        (b"a\r\n", b"a\r\n.\r\n"),
        (b"a", b"a\r\n.\r\n"),
        (b"", b"\r\n.\r\n"),
        (b".", b"..\r\n.\r\n"),
        (b".\r\n.\r\n..\r\n", b"..\r\n..\r\n...\r\n.\r\n"),
        (b"a\n.\nb\r.\r\n", b"a\n.\nb\r.\r\n.\r\n"),
        (b"a\n.\r\nb\r\n", b"a\n.\r\nb\r\n.\r\n"),
    ],
)
def test_only_dots_after_crlf_are_stuffed(content: bytes, wire: bytes) -> None:
    assert multi_line(content) == wire


@pytest.mark.parametrize(
    ("lines", "expected"),
    [
        (0, b"Subject: one\r\n\r\n"),
        (2, b"Subject: one\r\n\r\nfirst\r\nsecond\r\n"),
        (3, ONE),
        (99, ONE),
    ],
)
def test_top_counts_lines_of_the_body(lines: int, expected: bytes) -> None:
    assert top_of(ONE, lines) == expected


def test_top_of_a_message_without_header_or_body() -> None:
    assert top_of(b"\r\nbody\r\nmore\r\n", 1) == b"\r\nbody\r\n"
    assert top_of(b"Subject: only a header", 0) == b"Subject: only a header"


def test_unique_ids_are_stable_and_differ_for_identical_messages() -> None:
    first, again = (SandboxMaildrop("pw", [ONE, ONE, TWO]) for _ in range(2))

    assert first.uidls == again.uidls
    assert len(set(first.uidls)) == 3
    assert all(len(uidl) <= 70 and uidl.isascii() and b" " not in uidl for uidl in first.uidls)


def test_a_unique_id_is_not_used_again_after_deletion() -> None:
    maildrop = SandboxMaildrop("pw", [ONE])
    before = maildrop.uidls
    maildrop.remove(maildrop.snapshot())

    assert maildrop.append(ONE) not in before


def test_renewed_unique_ids_are_all_new() -> None:
    maildrop = SandboxMaildrop("pw", [ONE, TWO])
    before = set(maildrop.uidls)
    maildrop.renew_uidls(b"new-")

    assert before.isdisjoint(maildrop.uidls)
    assert maildrop.messages == [ONE, TWO]


def test_removal_takes_one_of_two_identical_messages() -> None:
    maildrop = SandboxMaildrop("pw", [ONE, ONE])
    kept = maildrop.uidls[1]
    maildrop.remove([maildrop.snapshot()[0]])

    assert maildrop.uidls == [kept]


class TestOpenMaildrop:
    def open(self, **features: object) -> OpenMaildrop:
        self.maildrop = SandboxMaildrop("pw", [ONE, TWO])
        return OpenMaildrop(self.maildrop, SandboxFeatures(**features))  # type: ignore[arg-type]  # any feature

    def test_sizes_are_what_a_client_will_have(self) -> None:
        opened = self.open()

        assert opened.run(b"STAT", b"") == b"+OK 2 %d\r\n" % (len(ONE) + len(TWO) + 2)
        assert opened.run(b"LIST", b"2") == b"+OK 2 %d\r\n" % (len(TWO) + 2)

    def test_marked_messages_leave_the_listings_and_rset_brings_them_back(self) -> None:
        opened = self.open()
        opened.run(b"DELE", b"1")

        assert opened.run(b"UIDL", b"").splitlines()[1:] == [b"2 " + self.maildrop.uidls[1], b"."]
        assert opened.run(b"STAT", b"").startswith(b"+OK 1 ")
        opened.run(b"RSET", b"")
        assert opened.run(b"STAT", b"").startswith(b"+OK 2 ")

    def test_only_update_removes(self) -> None:
        opened = self.open()
        opened.run(b"DELE", b"1")
        assert self.maildrop.messages == [ONE, TWO]

        assert opened.update() == 1
        assert self.maildrop.messages == [TWO]

    def test_mail_that_arrives_meanwhile_is_neither_seen_nor_removed(self) -> None:
        opened = self.open()
        self.maildrop.append(b"late")
        opened.run(b"DELE", b"2")

        assert opened.run(b"STAT", b"").startswith(b"+OK 1 ")
        opened.update()
        assert self.maildrop.messages == [ONE, b"late"]

    @pytest.mark.parametrize(
        ("verb", "argument"),
        [
            (b"RETR", b""),
            (b"RETR", b"0"),
            (b"RETR", b"3"),
            (b"RETR", b"-1"),
            (b"RETR", b"9" * 5000),
            (b"DELE", b"x"),
            (b"TOP", b"1"),
            (b"TOP", b"1 -1"),
            (b"LIST", b"7"),
            (b"XYZZY", b""),
        ],
    )
    def test_nonsense_is_refused(self, verb: bytes, argument: bytes) -> None:
        with pytest.raises(Refusal):
            self.open().run(verb, argument)

    def test_a_deleted_message_cannot_be_had(self) -> None:
        opened = self.open()
        opened.run(b"DELE", b"1")

        with pytest.raises(Refusal, match="deleted"):
            opened.run(b"RETR", b"1")

    def test_features_show(self) -> None:
        duplicate = self.open(duplicate_uidls=True).run(b"UIDL", b"").splitlines()[1:3]
        assert duplicate[0].split()[1] == duplicate[1].split()[1]
        assert len(self.open(overlong_uidls=True).run(b"UIDL", b"1").split()[2]) == 100
        assert self.open(size_error_octets=-5).run(b"LIST", b"1") == b"+OK 1 %d\r\n" % (len(ONE) - 5)
        for verb, features in ((b"UIDL", {"has_uidl": False}), (b"TOP", {"has_top": False})):
            with pytest.raises(Refusal, match="unknown"):
                self.open(**features).run(verb, b"")
