"""The command line: parses and prints, computes nothing."""

from __future__ import annotations

import gc
import os
import re
import sys
from contextlib import suppress
from importlib import import_module
from pathlib import Path
from types import FunctionType
from typing import Any

from cyclopts import App, CycloptsError, Parameter

import unlabeled
from unlabeled import api, registry
from unlabeled.errors import UserError, bounded, is_full_memory

app = App(
    name="unlabeled",
    help="Learn representations without labels, and prove what was learned. Every command takes --plugin FILE: your own "
    "methods, views or protocols.",
    version=unlabeled.__version__,
    default_parameter=Parameter(parse=re.compile("^(?!options$)"), negative=()),
    help_format="plaintext",
)

DOTTED = re.compile(r"--([a-z_-]+\.[\w.-]+)(?:=(.*))?", re.DOTALL)


def main(arguments: list[str] | None = None) -> None:
    """Runs the command and exits: 0 done, 1 a part of it failed, 2 the user can put it right (one line, no traceback),
    130 interrupted."""
    try:
        words = plugged(sys.argv[1:] if arguments is None else arguments)
        words, options = dotted(words)
        if "utf" not in (getattr(sys.stdout, "encoding", None) or "utf-8").lower():  # the help has characters beyond
            from unlabeled.console import console

            app.console = console()
        command, bound, _ = app.parse_args(words, exit_on_error=False, print_error=False)
        if options and "options" not in command.__annotations__:
            raise UserError(f"--{next(iter(options))} is no option of this command: see `unlabeled --help`")
        if command in _verbs:
            import_libraries()
        sys.exit(show(command(*bound.args, **bound.kwargs, **({"options": options} if options else {}))))
    except CycloptsError as error:
        _fail(renamed(" ".join(str(error).split())))
    except UserError as error:
        _fail(str(error))
    except OSError as error:  # a name that is too long, a folder that nobody may look into: of files, not of the program
        if error.filename is None:
            raise
        _fail(f"{str(error.filename)!r} cannot be used ({error.strerror or error}): give another, or permission for it")
    except (MemoryError, RuntimeError) as error:
        if not is_full_memory(error):
            raise
        _fail(f"this does not fit the memory ({error or 'no more'}): give a smaller --batch-size, smaller or fewer samples")
    except KeyboardInterrupt:
        sys.exit(130)


def renamed(message: str) -> str:
    """Says of an unknown option that is an earlier name what it is called now."""
    from unlabeled.recipe import RENAMED  # not for --help

    for old, new in RENAMED.items():
        option = f"--{old.replace('_', '-')}"
        if re.search(rf"Unknown option: \W?{option}\b", message):
            return f"{option} is now --{new.replace('_', '-')}"
    return message


def plugged(words: list[str]) -> list[str]:
    """Takes `--plugin FILE` out of the words and imports the files; processes that this one starts get them too.

    Raises:
        UserError: a file that is not there or fails.
    """
    rest: list[str] = []
    stream = iter(words)
    for word in stream:
        if word != "--plugin" and not word.startswith("--plugin="):
            rest.append(word)
            continue
        file = word.partition("=")[2] or next(stream, "")
        registry.load_plugin(file)
        held = os.environ.get(registry.PLUGINS, "").split(os.pathsep)
        os.environ[registry.PLUGINS] = os.pathsep.join(dict.fromkeys([*filter(None, held), str(Path(file).resolve())]))
    return rest


def dotted(words: list[str]) -> tuple[list[str], dict[str, str]]:
    """Takes `--a.b=c` and `--a.b c` out of the words.

    Raises:
        UserError: a dotted option without a value.

    >>> dotted(["x", "--method.temperature", "0.2", "--seed", "1"])
    (['x', '--seed', '1'], {'method.temperature': '0.2'})
    """
    rest: list[str] = []
    found: dict[str, str] = {}
    stream = iter(words)
    for word in stream:
        match = DOTTED.fullmatch(word)
        if not match:
            rest.append(word)
            continue
        value = match[2] if match[2] is not None else next(stream, None)
        if value is None or (match[2] is None and value.startswith("--")):
            raise UserError(f"{word} has no value: write {word} VALUE")
        found[match[1]] = value
    return rest, found


def import_libraries() -> None:
    """Imports what verbs compute with. Without the garbage collector: what an import makes stays, and looking through it for
    garbage again and again takes seconds."""
    collects = gc.isenabled()
    gc.disable()
    try:
        for name in ("lightning_fabric", "timm", "numba"):
            import_module(name)
    finally:
        if collects:
            gc.enable()


def show(result: Any) -> int:
    """Prints what a verb gave back; returns the exit code."""
    if result is None or _is_a_copy():
        return 0
    from unlabeled.console import console

    shown = console()
    for part in result.lines() if hasattr(result, "lines") else [f"written: {result}"]:
        shown.print(part, soft_wrap=isinstance(part, str))
    if not getattr(result, "finished", True):
        return 130
    return 1 if getattr(result, "failed", None) else 0


def methods(name: str | None = None, /) -> None:
    """List the methods; with a name, its options, their defaults and its paper.

    Args:
        name: of a method.
    """
    from unlabeled.api.methods import Catalogue

    show(Catalogue(name))


def recipes(name: str | None = None, /) -> None:
    """List the recipes that `--recipe NAME` takes; with a name, show it.

    Args:
        name: of a recipe.
    """
    from unlabeled.api.recipes import Recipes

    show(Recipes(name))


def _is_a_copy() -> bool:
    """Whether this process is one of several, and not the one that speaks."""
    if "torch" not in sys.modules:
        return False
    from unlabeled.distributed import rank

    return rank() > 0


def _without_result(verb: Any) -> Any:
    """The verb for cyclopts, which would import the type of the result to read the annotations."""
    copied = FunctionType(verb.__code__, verb.__globals__, verb.__name__, verb.__defaults__)
    needed = {"out"} if verb is api.embed else set()  # Python gets arrays without a file
    copied.__kwdefaults__ = {k: v for k, v in (verb.__kwdefaults__ or {}).items() if k not in needed}
    copied.__annotations__ = {k: _typed(v) for k, v in verb.__annotations__.items() if k != "return"}
    copied.__doc__ = verb.__doc__.partition("Returns:")[0]
    return copied


def _typed(annotation: str) -> str:
    """An annotation less what nobody can type: things that Python alone can give.

    >>> _typed("str | Callable[..., Any] | None")
    'str | None'
    """
    return " | ".join(part for part in annotation.split(" | ") if not re.match(r"type\[|Callable\[|nn\.", part))


def _fail(message: str) -> None:
    with suppress(OSError):  # nobody may be reading
        print(f"unlabeled: error: {bounded(message)}", file=sys.stderr, flush=True)
    sys.exit(2)


_verbs = [
    _without_result(verb)
    for verb in (
        api.inspect,
        api.pretrain,
        api.evaluate,
        api.compare,
        api.sweep,
        api.predict,
        api.embed,
        api.search,
        api.outliers,
        api.export,
        api.report,
        api.tune,
        api.contact_sheet,
    )
]
for _verb in _verbs:
    app.command(_verb, name="views" if _verb.__name__ == api.contact_sheet.__name__ else None)
app.command(methods)
app.command(recipes)

if __name__ == "__main__":
    main()
