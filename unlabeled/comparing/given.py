"""What was given in Python goes to the process of a row, pickled, and is given again there; no run's folder holds it."""

from __future__ import annotations

import pickle
import runpy
import sys
from pathlib import Path

import cloudpickle

from unlabeled.errors import UserError
from unlabeled.own import things
from unlabeled.recipe import Recipe
from unlabeled.training.given import named


def packed(recipe: Recipe, row: str) -> bytes:
    """Returns the parts of a recipe that were given in Python, classes of a notebook with their code, and where modules are
    found; b"" where all parts have names that every process knows.

    Raises:
        UserError: something that no other process can have, such as an open file.
    """
    parts = things({"method": recipe.method.name, "encoder": recipe.encoder.name, "views": recipe.views.name})
    try:
        return pickle.dumps((sys.path, cloudpickle.dumps(parts))) if parts else b""
    except (TypeError, pickle.PicklingError) as error:
        raise UserError(
            f"{row}: {' and '.join(parts)} given in Python cannot go to the process that trains the row ({error}): put it "
            "into a file with @register, and give that with --plugin; or pretrain with it, and give the run's folder"
        ) from error


if __name__ == "__main__":
    sys.path, parts = pickle.loads(Path(sys.argv[1]).read_bytes())
    named(**pickle.loads(parts))  # whose modules are found only now
    sys.argv = sys.argv[2:]
    runpy.run_module(sys.argv[0], run_name="__main__", alter_sys=True)
