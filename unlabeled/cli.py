"""The command line: parses and prints, computes nothing."""

from __future__ import annotations

import gc
import inspect
import os
import re
import sys
from contextlib import suppress
from importlib import import_module
from pathlib import Path
from typing import Annotated, Any, get_args, get_type_hints

from cyclopts import App, CycloptsError, Group, Parameter, UnknownOptionError

import unlabeled
from unlabeled import api, registry
from unlabeled.about import About
from unlabeled.errors import UserError, bounded, is_full_memory

app = App(
    name="unlabeled",
    help="Learn representations without labels, and prove what was learned. Every command takes --plugin FILE: your own "
    "methods, views or protocols.",
    version=unlabeled.__version__,
    version_flags=["--version", "-V"],
    default_parameter=Parameter(parse=re.compile("^(?!options$)"), negative=()),
    help_format="plaintext",
)

OF_IMAGES = ("range", "fit", "pages", "tiles")
"""Options of the kind of data that need no dot: `--range` is `--kind.range`."""
OF_PYTHON = re.compile(r"type\[|Callable\[|(nn|np|torch|Image)\.|Sequence\[Any")
"""Types of what nobody can type."""
DOTTED = re.compile(rf"--([a-z_-]+\.[\w.-]+|{'|'.join(OF_IMAGES)})(?:=(.*))?", re.DOTALL)


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
            shown = " ".join(["unlabeled", *words[:1], "--help"])
            raise UserError(f"--{next(iter(options))} is no option of this command: see `{shown}`")
        if command in _verbs.values():
            import_libraries()
        sys.exit(show(command(*bound.args, **bound.kwargs, **({"options": options} if options else {}))))
    except UnknownOptionError as error:
        _fail(unknown(error))
    except CycloptsError as error:
        _fail(" ".join(str(error).split()))
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


def unknown(error: UnknownOptionError) -> str:
    """Says of an option that a command has not what it is called now, or which is near; where none is, which it has."""
    from unlabeled.recipe import RENAMED  # not for --help

    word = (error.token.keyword or error.token.value).partition("=")[0]
    bare = word.lstrip("-")
    if new := RENAMED.get(bare.replace("-", "_")):
        return f"{word} is now --{new.replace('_', '-')}"
    own: list[str] = []
    shared = ["plugin", "help"]
    for one in error.argument_collection:
        place = shared if DATA in one.parameter.group else own  # type: ignore[operator]
        place += [name[2:] for name in one.names if one.parse and name.startswith("--")]
    if shared[2:]:
        shared += OF_IMAGES
    near = registry.nearest(bare, [*own, *shared])
    has = ", ".join(f"--{name}" for name in own)
    return f"there is no option {word}" + (near.replace("mean '", "mean '--") or f"; there are: {has or '--help'}")


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
    """Takes `--a.b=c` and `--a.b c` out of the words, and the options of images that need no dot.

    Raises:
        UserError: a dotted option without a value.

    >>> dotted(["x", "--method.temperature", "0.2", "--seed", "1"])
    (['x', '--seed', '1'], {'method.temperature': '0.2'})
    >>> dotted(["--range", "-100,600"])
    ([], {'kind.range': '-100,600'})
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
        found[f"kind.{match[1]}" if match[1] in OF_IMAGES else match[1]] = value
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


def names(what: str | None = None, name: str | None = None, /) -> None:
    """List what can be named, such as views, encoders, protocols and data; with a name, the options of one.

    Args:
        what: methods, views, encoders, optimizers, protocols, data, kinds or recipes; without one, what each of these is.
        name: of one.
    """
    from unlabeled.api.lists import Names

    show(Names(what, name))


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

    def run(*arguments: Any, **named: Any) -> Any:
        return verb(*arguments, **named)

    found = inspect.signature(verb).parameters
    run.__annotations__ = {name: _typed(p.annotation) for name, p in found.items()}
    hints = get_type_hints(run, inspect.unwrap(verb).__globals__)
    run.__annotations__ = {name: _shown(name, hint) for name, hint in hints.items()}
    needed = {"out"} if verb is api.embed else set()  # Python gets arrays without a file
    run.__signature__ = inspect.Signature(  # type: ignore[attr-defined]
        [
            p.replace(annotation=run.__annotations__[name], default=p.empty if name in needed else p.default)
            for name, p in found.items()
        ]
    )
    run.__name__, run.__doc__ = verb.__name__, _unwrapped(verb.__doc__.partition("Returns:")[0])
    return run


def _shown(name: str, annotation: Any) -> Any:
    """An annotation as the help shows it: with a word for values, what all verbs take in a place of its own."""
    word = Parameter(metavar=_word(annotation))
    return (
        Annotated[annotation, word, Parameter(group=DATA)] if name in About.__annotations__ else Annotated[annotation, word]
    )


def _typed(annotation: Any) -> Any:
    """An annotation less what nobody can type: things that Python alone can give.

    >>> _typed("str | Callable[..., Any] | None")
    'str | None'
    """
    if not isinstance(annotation, str):
        return annotation
    return " | ".join(part for part in annotation.split(" | ") if not OF_PYTHON.match(part))


def _word(annotation: Any) -> str:
    """What stands for a value in the help.

    >>> _word(int | None), _word(str | Path | None), _word(str)
    ('NUMBER', 'PATH', 'TEXT')
    """
    kinds = {annotation, *get_args(annotation)}
    return "PATH" if Path in kinds else "NUMBER" if kinds & {int, float} else "TEXT"


def _unwrapped(text: str) -> str:
    """A docstring with each paragraph, and each argument, in one line: terminals break them where they end. What is for
    Python alone is left out."""
    about, found, arguments = re.sub(r"\n {12}(?=\S)", " ", text).partition("\n    Args:")
    text = re.sub(r"(?<=\S)\n {4}(?=\S)", " ", about) + found + arguments
    text = re.sub(r" In Python (?:also|without)[^.]*(?:\.\w[^.]*)*\.(?=\s)", "", text)
    return re.sub(r"; in Python,? (?:also [^`(.]*)?`[^`]*`", "", text)


DATA = Group("The data", "O" + _unwrapped(About.__doc__ or "").partition("options: o")[2], sort_key=99)
"""Where the help shows what all verbs take, and what of it has a dot."""


def _shown_examples(commands: list[str]) -> str:
    return "\n".join(["Examples:", *(f"  unlabeled {words}" for words in commands)]) if commands else ""


def _fail(message: str) -> None:
    with suppress(OSError):  # nobody may be reading
        print(f"unlabeled: error: {bounded(message)}", file=sys.stderr, flush=True)
    sys.exit(2)


VERBS: dict[str, Any] = {
    "inspect": api.inspect,
    "views": api.contact_sheet,
    "pretrain": api.pretrain,
    "evaluate": api.evaluate,
    "report": api.report,
    "search": api.search,
    "outliers": api.outliers,
    "embed": api.embed,
    "predict": api.predict,
    "export": api.export,
    "compare": api.compare,
    "sweep": api.sweep,
    "tune": api.tune,
}
"""In the order of the work."""
EXAMPLES = {
    "inspect": ["inspect photographs --minutes 60"],
    "views": ["views photographs --policy simclr --out views.png", "views photographs --policy moco --policy.strength 0.5"],
    "pretrain": [
        "pretrain photographs --epochs 100 --out runs/a",
        "pretrain photographs --method moco --method.temperature 0.1 --encoder resnet18 --encoder.width 32 --out runs/b",
        "pretrain photographs --epochs 100 --out runs/a --resume",
    ],
    "evaluate": [
        "evaluate runs/a --data labelled --protocol knn --protocol linear --labels 1 --labels 10%",
        "evaluate runs/a --data labelled --against random --against runs/b",
    ],
    "report": ["report runs/a", "report runs/a runs/b --out both.html"],
    "search": ["search runs/a photograph.jpg --data photographs --n 20"],
    "outliers": ["outliers runs/a photographs --n 50"],
    "embed": ["embed runs/a photographs --out features.parquet", "embed runs/a photographs --out features.csv"],
    "predict": ["predict runs/tuned photographs --out classes.csv"],
    "export": ["export runs/a --format onnx"],
    "compare": ["compare labelled --method simclr --method moco:queue=1024 --minutes 30"],
    "sweep": ["sweep labelled --grid method.temperature=0.1,0.2,0.5 --epochs 20"],
    "tune": ["tune photographs --encoder resnet18 --batch-size 256"],
    "list": ["list", "list views", "list encoders", "list protocols knn"],
    "methods": ["methods", "methods simclr"],
    "recipes": ["recipes", "recipes digits/simclr"],
}
"""What the help of each command ends with."""

_verbs = {name: _without_result(verb) for name, verb in VERBS.items()}
for _at, (_name, _verb) in enumerate({**_verbs, "list": names, "methods": methods, "recipes": recipes}.items()):
    app.command(_verb, name=_name, sort_key=_at, help_epilogue=_shown_examples(EXAMPLES.get(_name, [])))
app.help_epilogue = _shown_examples([EXAMPLES[name][0] for name in ("inspect", "pretrain", "evaluate", "report", "embed")])
app.register_install_completion_command(help="Lets the shell complete commands and options: bash, zsh or fish.")

if __name__ == "__main__":
    main()
