"""What `check` says about ways to log in that are allowed and may not be meant."""

from __future__ import annotations

from pathlib import Path

from support.certificates import LocalAuthority


def check(command, folder, maildrop: dict[str, object]) -> str:
    ended = command(
        "check",
        "-c",
        folder.write(
            {"maildrop.alice": maildrop, "destination.hop": folder.smtp(1)},
        ),
    )
    assert ended.code == 0, ended.err
    return str(ended.out)


def bare(folder, **more: object) -> dict[str, object]:
    table = dict(folder.maildrop(1, "alice", **more))
    del table["password"]
    return table


def test_rpop_is_told_for_what_it_is(command, folder) -> None:
    assert "maildrop.alice.auth: rpop proves nothing" in check(command, folder, bare(folder, auth="rpop"))


def test_a_certificate_that_is_missing_is_told(command, folder, tmp_path: Path) -> None:
    table = bare(folder, auth="external", tls="implicit", tls_certificate=tmp_path / "none.crt")
    assert "maildrop.alice.tls_certificate:" in check(command, folder, table)
    assert "No such file" in check(command, folder, table)


def test_a_key_that_everybody_reads_is_told(command, folder, tmp_path: Path) -> None:
    certificate, key = LocalAuthority().good().write(tmp_path / "own")
    table = bare(folder, auth="external", tls="implicit", tls_certificate=certificate, tls_key=key)
    assert "tls_key" not in check(command, folder, table)
    key.chmod(0o644)
    assert f"maildrop.alice.tls_key: {key} can be read by everybody" in check(command, folder, table)


def test_a_certificate_without_tls_is_told(command, folder, tmp_path: Path) -> None:
    certificate, key = LocalAuthority().good().write(tmp_path / "own")
    table = dict(folder.maildrop(1, "alice", tls_certificate=certificate, tls_key=key))
    assert 'not shown, as tls = "none"' in check(command, folder, table)
