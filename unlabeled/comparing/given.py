"""What was given in Python goes to the process of a row, pickled, and is given again there; no run's folder holds it."""

from __future__ import annotations

import pickle
import runpy
import sys
from pathlib import Path

import cloudpickle

from unlabeled.errors import UserError
from unlabeled.own import ARGUMENTS, things
from unlabeled.recipe import Recipe
from unlabeled.registry import brought, put
from unlabeled.training.given import named


def packed(recipe: Recipe, row: str) -> bytes:
    """Returns the parts of a recipe that were given in Python or registered in this process alone, classes of a notebook
    with their code, and where modules are found; b"" where all parts have names that every process knows.

    Raises:
        UserError: something that no other process can have, such as an open file.
    """
    names = {"method": recipe.method.name, "encoder": recipe.encoder.name, "views": recipe.views.name}
    parts = things(names)
    entries = [brought(ARGUMENTS[part], name) for part, name in names.items() if part not in parts]
    known = [entry for entry in entries if entry]
    try:
        return pickle.dumps((sys.path, cloudpickle.dumps((parts, known)))) if parts or known else b""
    except (TypeError, pickle.PicklingError) as error:
        which = " and ".join([*parts, *(entry.name for entry in known)])
        raise UserError(
            f"{row}: {which} given in Python cannot go to the process that trains the row ({error}): put it "
            "into a file with @register, and give that with --plugin; or pretrain with it, and give the run's folder"
        ) from error


if __name__ == "__main__":
    sys.path, rest = pickle.loads(Path(sys.argv[1]).read_bytes())
    parts, entries = pickle.loads(rest)  # whose modules are found only now
    named(**parts)
    for entry in entries:
        put(entry)
    sys.argv = sys.argv[2:]
    runpy.run_module(sys.argv[0], run_name="__main__", alter_sys=True)
