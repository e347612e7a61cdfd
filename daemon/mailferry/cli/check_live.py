"""What `mailferry check --live` says of each peer: one line, and beneath it what is worth a word."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence

from rich.console import Console

from mailferry.assembly.live import LiveResult, LiveState
from mailferry.cli.probe_facts import days_left, opening_document
from mailferry.cli.probe_words import STAGES, advice_on, refusal_document
from mailferry.cli.screen import table
from mailferry.cli.wording import counted
from mailferry.net.opening import Opening
from mailferry.telemetry.redaction import clean_text


def show_live(results: Sequence[LiveResult], console: Console) -> None:
    """Print a line for each peer, and beneath them what went wrong and what is worth a word."""
    columns = ("peer", "server", "TLS", "days left", "login", "result", "seconds")
    shown = table(columns, numbers=("days left", "seconds"))
    for result in results:
        opening = result.opening
        cells = (result.where, *_tls_cells(opening), opening.method, _result_words(result))
        shown.add_row(result.peer, *cells, f"{result.seconds:.2f}")
    console.print(shown)
    for result in results:
        for line in _lines(result):
            console.print(f"{result.peer}: {clean_text(line)}", soft_wrap=True)


def live_document(results: Sequence[LiveResult]) -> list[dict[str, object]]:
    """Return the results for `--json`."""
    now = time.time()
    return [_document(result, now) for result in results]


def all_well(results: Sequence[LiveResult]) -> bool:
    """Whether no peer failed; one that is busy has not."""
    return not any(result.state is LiveState.FAILED for result in results)


def summary(results: Sequence[LiveResult]) -> str:
    """Return one line on all of them."""
    failed = sum(result.state is LiveState.FAILED for result in results)
    all_of_them = counted(len(results), "peer")
    return f"{failed} of {all_of_them} cannot be used." if failed else f"{all_of_them} can be used."


def _tls_cells(opening: Opening) -> tuple[str, str]:
    tls = opening.tls
    if tls is None:
        return "none" if opening.peer else "", ""
    days = days_left(tls.chain[0], time.time()) if tls.chain else None
    return tls.version.removeprefix("TLSv"), "" if days is None else str(days)


def _result_words(result: LiveResult) -> str:
    if result.state is LiveState.FAILED and result.error is not None:
        return f"failed at {STAGES[result.stage]}"
    return result.state.value


def _lines(result: LiveResult) -> Iterator[str]:
    if result.error is not None:
        yield str(result.error)
        yield from filter(None, [advice_on(result.error)])
    if result.problem:
        yield result.problem
    yield from result.notes


def _document(result: LiveResult, now: float) -> dict[str, object]:
    error = result.error
    return {
        "peer": result.peer,
        "where": result.where,
        "state": result.state.value,
        "failed_at": result.stage.value if error is not None else None,
        "error": str(error) if error is not None else result.problem or None,
        "error_kind": type(error).__name__ if error is not None else None,
        "said": refusal_document(error) if error is not None else None,
        "notes": list(result.notes),
        "seconds": round(result.seconds, 3),
        **opening_document(result.opening, pinned=result.pinned, now=now),
    }
