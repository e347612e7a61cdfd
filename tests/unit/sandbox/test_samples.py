import base64
import tomllib
from collections import Counter
from pathlib import Path

from mailferry.sandbox import Sandbox, config_text, sample_messages


def test_samples_are_about_thirty_and_always_the_same() -> None:
    samples = sample_messages()

    assert 28 <= len(samples) <= 40
    assert samples == sample_messages()


def test_samples_hold_what_real_maildrops_hold() -> None:
    samples = sample_messages()
    everything = b"\r\n".join(samples)

    for charset in ("windows-1251", "koi8-r", "utf-8"):
        assert base64.b64encode("Отчёт за июнь".encode(charset)) in everything
        assert "Отчёт".encode(charset) in everything
    assert any(2_000_000 < len(sample) < 2_500_000 for sample in samples)
    assert any(max(map(len, sample.split(b"\r\n"))) == 20_000 for sample in samples)
    assert b"\r\n.\r\n..\r\n...\r\n.hidden\r\n" in everything
    assert b"\n.\r\n" in everything.replace(b"\r\n.\r\n", b"")
    assert b"\0" in everything
    assert any(sample.startswith(b"Return-Path: <>\r\n") for sample in samples)
    assert any(sample.startswith(b"\r\n") for sample in samples)
    assert any(b"\r\n\r\n" not in sample for sample in samples)
    assert any(sample.endswith(b"\r\n\r\n") for sample in samples)
    assert b"iso-2022-jp" in everything


def test_one_message_is_there_twice_and_one_message_id_with_two_texts() -> None:
    samples = sample_messages()

    assert max(Counter(samples).values()) == 2
    assert sum(b"<sample-61@example.org>" in sample for sample in samples) == 2


def test_configuration_names_every_maildrop_of_the_sandbox(tmp_path: Path) -> None:
    config = tomllib.loads(config_text(1110, 1025, tmp_path / 'odd "name', 9465))

    assert config["maildrop"].keys() == Sandbox().maildrops.keys()
    assert {section["port"] for section in config["maildrop"].values()} == {1110}
    assert {section["keep"] for section in config["maildrop"].values()} == {True, False, "7d"}
    assert config["destination"]["sink"]["port"] == 1025
    assert config["destination"].keys() == set(config["maildrop"]["sandbox"]["deliver"])
    assert config["daemon"]["state_dir"] == str(tmp_path / 'odd "name')
    assert config["http"]["listen"] == "127.0.0.1:9465"
