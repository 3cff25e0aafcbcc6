"""What a person means by the beginning of an alert's id."""

from __future__ import annotations

import pytest
from tests.support.scene import WHO, Sandboxes

from gonogo.cli.finding import alert_id
from gonogo.errors import NotFound, Refused


def test_of_several_alerts_the_one_that_is_not_resolved_is_meant(sandboxes: Sandboxes) -> None:
    """While two are open nobody can tell which; where none begins like that there is none."""
    sandbox = sandboxes()
    first, second = (sandbox.alert_system.alert(task, "late")["id"] for task in ("mail", "pay"))
    shared = first[:8]
    assert second.startswith(shared)
    with pytest.raises(Refused, match=rf"{second} \(pay: late, open\).*give one of these ids"):
        alert_id(sandbox, shared)
    sandbox.alert_system.resolve(first, **WHO)
    assert alert_id(sandbox, shared) == second
    assert alert_id(sandbox, first) == first
    assert alert_id(sandbox, first[:-1]) == first
    for text in (shared[:7], "f" * 8):
        with pytest.raises(NotFound, match="there is no alert"):
            alert_id(sandbox, text)
