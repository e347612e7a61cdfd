from __future__ import annotations

import json

from mailferry.config import json_schema


def test_the_schema_is_printed_whole(command) -> None:
    ended = command("schema")
    assert ended.code == 0
    assert json.loads(ended.out) == json_schema()
