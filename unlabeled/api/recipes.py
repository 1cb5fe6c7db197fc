"""The verb `recipes`: what is packaged, by name."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from rich.console import RenderableType
from rich.table import Table

from unlabeled.recipe import compose, locate, packaged, read


@dataclass(frozen=True, slots=True)
class Recipes:
    """All packaged recipes; or one, as it is written."""

    name: str | None = None

    def lines(self) -> Iterator[RenderableType]:
        """Returns what a terminal shows."""
        if self.name:
            yield locate(self.name).read_text(encoding="utf-8").rstrip()
            return
        table = Table("recipe", "method", "encoder", "epochs", box=None)
        for name in packaged():
            recipe = compose(read(name))
            width = recipe.encoder.options.get("width")
            table.add_row(
                name, recipe.method.name, recipe.encoder.name + f", width {width}" * bool(width), str(recipe.epochs)
            )
        yield table
        yield "`--recipe NAME` takes one; `unlabeled recipes NAME` shows it."
