"""The verb `list`: what can be named, from the registry, so that nothing is written twice."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from rich.console import RenderableType
from rich.table import Table
from rich.text import Text

from unlabeled import registry
from unlabeled.api.methods import Catalogue, page
from unlabeled.api.recipes import Recipes
from unlabeled.errors import UserError

WORDS = {
    "methods": "methods", "views": "views", "encoders": "encoders", "optimizers": "optim", "protocols": "probes",
    "data": "data", "kinds": "kinds", "recipes": "",
}  # fmt: skip
"""What can be listed, and the registry's kind of it; recipes are files."""
ABOUT = {
    "methods": "how to learn (--method)", "views": "what a method is shown of a sample (--views)",
    "encoders": "the network that is trained (--encoder)", "optimizers": "how weights are moved (--optimizer)",
    "protocols": "how an encoder is judged (evaluate --protocol)", "data": "data sets that have a name",
    "kinds": "what a sample is (--kind)", "recipes": "settings of whole runs (--recipe)",
}  # fmt: skip
OPTIONS = {"views": "--views.", "encoders": "--encoder.", "optim": "--optimizer.", "kinds": "--kind."}
"""How options of a kind are typed; those of protocols follow a colon, and data have none."""


@dataclass(frozen=True, slots=True)
class Names:
    """All names of a kind, with a line each; one thing, with its options and their defaults; or what kinds there are.

    Attributes:
        what: a word of `WORDS`; None for all words.
        name: of one thing; None for all.
    """

    what: str | None = None
    name: str | None = None

    def lines(self) -> Iterator[RenderableType]:
        """Returns what a terminal shows.

        Raises:
            UserError: a word or a name that nothing has.
        """
        if self.what is None:
            yield from _words()
            return
        if self.what not in WORDS:
            near = registry.nearest(self.what, WORDS)
            raise UserError(f"nothing called {self.what!r} to list{near}; there are: {', '.join(WORDS)}")
        kind = WORDS[self.what]
        if self.what in ("methods", "recipes"):
            yield from (Catalogue if self.what == "methods" else Recipes)(self.name).lines()
        elif self.name is not None:
            yield from page(registry.get(kind, self.name), OPTIONS.get(kind, ""))
        else:
            yield from self._all(kind)

    def _all(self, kind: str) -> Iterator[RenderableType]:
        table = Table(registry.KINDS[kind], "what it is", box=None)
        for name in registry.names(kind):
            table.add_row(name, Text(registry.get(kind, name).line))
        yield table
        if kind == "encoders":
            from timm import list_models

            yield from (name for name in list_models() if name not in registry.names(kind))
            yield "Those without a line are timm's; --encoder takes any of them."
        elif kind != "data":
            yield f"`unlabeled list {self.what} NAME` shows the options of one."


def _words() -> Iterator[RenderableType]:
    table = Table("word", "what is listed", box=None)
    for word, about in ABOUT.items():
        table.add_row(word, about)
    yield table
    yield "`unlabeled list WORD` lists them; `unlabeled list WORD NAME` shows the options of one."
