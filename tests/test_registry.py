"""Values from text to the annotated type, and names."""

from __future__ import annotations

import subprocess
import sys
from typing import Any, Literal

import pytest

from unlabeled import registry
from unlabeled.errors import UserError
from unlabeled.registry import coerce


@pytest.mark.parametrize(
    ("value", "wanted", "expected"),
    [
        ("3", int, 3),
        (3.0, int, 3),
        ("1e-3", float, 0.001),
        (2, float, 2.0),
        ("no", bool, False),
        (True, bool, True),
        ("None", int | None, None),
        (None, int | None, None),
        ("4", int | None, 4),
        ("b", Literal["a", "b"], "b"),
        ("2", Literal[1, 2], 2),
        ("0.5, 1", tuple[float, float], (0.5, 1.0)),
        ([1, 2, 3], tuple[int, ...], (1, 2, 3)),
        (5, str, "5"),
        ("auto", int | str, "auto"),
        ("7", int | str, 7),
    ],
)
def test_what_is_understood(value: Any, wanted: Any, expected: Any) -> None:
    found = coerce(value, wanted, "x")
    assert found == expected
    assert type(found) is type(expected)


@pytest.mark.parametrize(
    ("value", "wanted", "said"),
    [
        (0.5, tuple[float, float], "2 numbers with a comma between"),
        ("0.5", tuple[float, float], "2 numbers with a comma between"),
        (None, tuple[float, float], "2 numbers"),
        ("a,b", tuple[float, float], "2 numbers"),
        ("c", Literal["a", "b"], "one of 'a', 'b'"),
        ("maybe", bool, "true or false"),
        (2.5, int, "a whole number"),
        ("2.5", int, "a whole number"),
        (float("inf"), int, "a whole number"),
        (True, int, "a whole number"),
        ("nan", float, "a number"),
        ([1], float, "a number"),
        (None, str, "text"),
        ("x", int | None, "a whole number or null"),
    ],
)
def test_what_is_refused(value: Any, wanted: Any, said: str) -> None:
    with pytest.raises(UserError) as error:
        coerce(value, wanted, "option lr")
    assert str(error.value).startswith(f"option lr is {value!r}, and must be {said}")


def test_names_are_read_without_importing() -> None:
    program = (
        "import sys; from unlabeled import registry; found = registry.names('methods')\n"
        "assert 'simclr' in found and 'torch' not in sys.modules and 'unlabeled.methods.simclr' not in sys.modules"
    )
    assert subprocess.run([sys.executable, "-c", program], check=False).returncode == 0


@pytest.mark.parametrize("kind", ["methods", "views", "optim", "probes"])
def test_every_registered_thing_documents_its_options(kind: str) -> None:
    for name in registry.names(kind):
        entry = registry.get(kind, name)
        assert entry.make.__doc__, name
        for option, about in entry.options().items():
            assert about.help, f"{kind} {name}: {option} has no line in the docstring"
            assert coerce(about.default, about.type, option) == about.default
