"""What describes the configuration agrees with what is accepted: schema, reference, samples."""

from __future__ import annotations

import json
import re
import shutil
import tomllib
from pathlib import Path
from typing import Any

import pytest

from mailferry.config import json_schema, load_settings, reference_markdown

from .conftest import VALID

ROOT = Path(__file__).parents[3]
SAMPLE = ROOT / "config" / "mailferry.toml"
DROP_IN = ROOT / "config" / "conf.d" / "branch.toml.disabled"
CORPUS = ROOT / "tests" / "bad_configs"


def provide_secrets(directory: Path, names: tuple[str, ...]) -> None:
    (directory / "secrets").mkdir(parents=True)
    for name in names:
        (directory / "secrets" / name).write_text("secret\n")
        (directory / "secrets" / name).chmod(0o600)


def test_the_sample_loads_as_it_is(tmp_path: Path) -> None:
    shutil.copy(SAMPLE, tmp_path)
    provide_secrets(tmp_path, ("alice", "relay"))
    settings = load_settings(tmp_path / "mailferry.toml", environ={})
    assert sorted(settings.maildrop) == ["alice", "sales"]
    assert sorted(settings.destination) == ["office", "vault"]
    assert settings.maildrop["alice"].keep == 14 * 86400.0
    assert settings.maildrop["sales"].deliver == ("office",)


def test_what_the_sample_shows_as_comments_loads_too(tmp_path: Path) -> None:
    lines = [re.sub(r"^# (?=\w+ = |\[)", "", line) for line in SAMPLE.read_text().splitlines()]
    (tmp_path / "mailferry.toml").write_text("\n".join(lines))
    provide_secrets(tmp_path, ("alice", "relay"))
    settings = load_settings(tmp_path / "mailferry.toml", environ={})
    assert settings.daemon.hostname == "mail.example.org"
    assert settings.ledger_url == "sqlite:////var/lib/mailferry/ledger.sqlite3"


def test_the_sample_of_a_drop_in_loads(tmp_path: Path) -> None:
    provide_secrets(tmp_path / "conf.d", ("branch",))
    shutil.copy(DROP_IN, tmp_path / "conf.d" / "branch.toml")
    (tmp_path / "mailferry.toml").write_text("")
    settings = load_settings(tmp_path / "mailferry.toml", environ={})
    assert settings.etrn["head-office"].nodes == ("rnd.example.org", "@branch.example.org", "#slow")
    assert settings.destination["branch"].resolved_port == 25  # type: ignore[union-attr]


def test_the_manual_holds_the_reference() -> None:
    assert reference_markdown() in (ROOT / "docs" / "configuration.md").read_text()


def test_the_examples_of_the_manual_are_accepted(tmp_path: Path) -> None:
    text = (ROOT / "docs" / "configuration.md").read_text()
    example = text.partition("```toml\n")[2].partition("```")[0]
    (tmp_path / "mailferry.toml").write_text(example)
    provide_secrets(tmp_path, ("alice", "relay"))
    assert load_settings(tmp_path / "mailferry.toml", environ={}).maildrop["alice"].deliver == (
        "office",
        "vault",
    )
    shell = text.partition("```sh\n")[2].partition("```")[0]
    environ = dict(line.split("=", 1) for line in shell.splitlines())
    environ["MAILFERRY_MAILDROP__ALICE__PASSWORD__FILE"] = str(tmp_path / "secrets" / "alice")
    (tmp_path / "empty.toml").write_text("")
    assert load_settings(tmp_path / "empty.toml", environ=environ).maildrop["alice"].deliver == ("office",)


def test_the_examples_for_lmtp_are_accepted(tmp_path: Path) -> None:
    blocks = (ROOT / "docs" / "lmtp.md").read_text().split("```toml\n")[1:]
    provide_secrets(tmp_path, ("alice", "family"))
    found = []
    for block in blocks:
        maildrop = VALID if "[maildrop." not in block else ""
        (tmp_path / "mailferry.toml").write_text(maildrop + block.partition("```")[0])
        found.append(load_settings(tmp_path / "mailferry.toml", environ={}).destination["store"])
    assert [(each.type, each.recipients) for each in found] == [  # type: ignore[union-attr]
        ("lmtp", ("bob@example.org", "cyd@example.org")),
        ("lmtp", ("bob@example.org",)),
        ("lmtp", ()),
    ]


# The schema, judged by a validator for just the words that it uses.


def wrong(schema: dict[str, Any], value: Any, path: str = "") -> list[str]:
    """Return the paths at which a value breaks the schema."""
    checks = {
        "type": lambda word: _is_type(value, word),
        "enum": lambda words: value in words,
        "pattern": lambda pattern: not isinstance(value, str) or re.search(pattern, value),
        "minLength": lambda least: not isinstance(value, str) or len(value) >= least,
        "minimum": lambda least: not isinstance(value, int | float) or value >= least,
        "maximum": lambda most: not isinstance(value, int | float) or value <= most,
        "uniqueItems": lambda _: not isinstance(value, list) or len(set(map(str, value))) == len(value),
        "minItems": lambda least: not isinstance(value, list) or len(value) >= least,
        "minProperties": lambda least: not isinstance(value, dict) or len(value) >= least,
        "maxProperties": lambda most: not isinstance(value, dict) or len(value) <= most,
        "required": lambda keys: not isinstance(value, dict) or set(keys) <= set(value),
        "anyOf": lambda options: any(not wrong(option, value) for option in options),
        "oneOf": lambda options: sum(not wrong(option, value) for option in options) == 1,
        "not": lambda inner: bool(wrong(inner, value)),
    }
    nested = {"properties", "patternProperties", "additionalProperties", "items"}
    assert set(schema) <= set(checks) | nested | {"$schema", "title", "description", "default"}
    found = [
        f"{path}: {word}" for word, check in checks.items() if word in schema and not check(schema[word])
    ]
    return found + _wrong_below(schema, value, path)


def _is_type(value: Any, word: str) -> bool:
    types = {
        "object": dict,
        "array": list,
        "string": str,
        "boolean": bool,
        "integer": int,
        "number": (int, float),
    }
    return isinstance(value, types[word]) and (word == "boolean" or not isinstance(value, bool))


def _wrong_below(schema: dict[str, Any], value: Any, path: str) -> list[str]:
    if isinstance(value, list) and "items" in schema:
        return [problem for entry in value for problem in wrong(schema["items"], entry, path)]
    if not isinstance(value, dict) or "additionalProperties" not in schema:
        return []
    found = []
    for key, inner in value.items():
        patterns = [
            sub for pattern, sub in schema.get("patternProperties", {}).items() if re.search(pattern, key)
        ]
        subschema = schema.get("properties", {}).get(key) or (patterns[0] if patterns else None)
        found += wrong(subschema, inner, f"{path}.{key}") if subschema else [f"{path}.{key}: unknown"]
    return found


@pytest.mark.parametrize("path", [SAMPLE, DROP_IN], ids=lambda path: path.name)
def test_the_schema_accepts_the_samples(path: Path) -> None:
    assert wrong(json_schema(), tomllib.loads(path.read_text())) == []


def test_the_schema_accepts_other_forms_of_a_value() -> None:
    text = VALID + 'port = "pop3s"\ntimeout = 5\nmax_size = 100000\nkeep = "1h30m"\njitter = "1.5m"\n'
    assert wrong(json_schema(), tomllib.loads(text)) == []


SEEN_BY_THE_SCHEMA = [
    "02-unknown-key",
    "05-missing-keys",
    "06-bare-password",
    "08-password-two-sources",
    "23-tls-word",
    "26-tls-fingerprint-short",
    "27-port-range",
    "30-port-true",
    "35-duration-words",
    "36-duration-zero",
    "38-keep-without-unit",
    "40-every-and-cron",
    "45-size-unit",
    "51-deliver-text",
    "52-deliver-twice",
    "55-destination-type",
    "63-maildir-with-smtp-keys",
    "65-name-with-capital",
    "69-flag-quoted",
    "70-number-range",
    "72-ledger-other-store",
]


@pytest.mark.parametrize("case", SEEN_BY_THE_SCHEMA)
def test_the_schema_refuses_what_an_editor_can_see(case: str) -> None:
    assert wrong(json_schema(), tomllib.loads((CORPUS / f"{case}.toml").read_text()))


def properties() -> list[tuple[str, dict[str, Any]]]:
    found = []
    for section, schema in json_schema()["properties"].items():
        entries = schema.get("patternProperties", {"": schema}).values()
        for entry in entries:
            for table in entry.get("oneOf", [entry]):
                found += [(f"{section}.{key}", inner) for key, inner in table["properties"].items()]
    return found


@pytest.mark.parametrize(("key", "schema"), properties())
def test_every_key_is_described_and_its_default_is_valid(key: str, schema: dict[str, Any]) -> None:
    assert schema["description"].endswith(".")
    assert "default" not in schema or wrong(schema, schema["default"]) == []


def test_the_schema_is_json_of_the_promised_dialect() -> None:
    assert json.loads(json.dumps(json_schema()))["$schema"] == "https://json-schema.org/draft/2020-12/schema"
