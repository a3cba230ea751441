"""What commands share: notes on stderr."""

from __future__ import annotations

import pytest

from seg1b.cli import runtime
from seg1b.cli.runtime import Session


@pytest.mark.parametrize("topic", ["policies", "catalogue", "ten_letters", "more_than_ten"])
@pytest.mark.parametrize(
    "text", ["the packaged defaults", "[bold]a/path[/bold] :smile: é", "long " * 60 + "end"]
)
def test_a_note_reads_the_same_with_and_without_a_console(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], topic: str, text: str
) -> None:
    """Where stderr is no terminal none is loaded; a variable of the environment may say that it is one."""
    found = []
    for taken_for_terminal in (False, True):
        monkeypatch.setattr(runtime, "_may_be_terminal", lambda _, answer=taken_for_terminal: answer)
        session = Session("test", json=False)
        session.note(topic, text)
        assert (session._err is None) is not taken_for_terminal
        found.append(capsys.readouterr().err)
    assert found[0] == found[1]
    assert found[0].startswith(topic)
