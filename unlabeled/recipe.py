"""What a run IS: dataclasses <-> YAML <-> `--a.b=c`. Importing this does not import torch."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, get_type_hints

import yaml

from unlabeled.about import of_limit
from unlabeled.console import console
from unlabeled.errors import UserError
from unlabeled.registry import Choice, Entry, coerce, get, names, nearest
from unlabeled.words import counted

Scaling = Literal["linear", "sqrt", "none"]
"""How a learning rate follows the batch size; see `unlabeled.optim.schedules.scaled_lr`."""

Keep = Literal["best", "last"]
"""Which epoch's encoder a run gives."""
Usual = Callable[[Entry, str, Mapping[str, Any]], Mapping[str, Any]]
"""Entry of a method, name of an encoder, what the paper prescribes with both -> fields of a recipe in place of that."""

CHOICES = {"method": "methods", "views": "views", "optimizer": "optim", "encoder": None, "kind": None}
"""Fields that are a name with options, and where the registry has each. Encoders are timm's or their kind's; the options of
a kind are resolved when the data are opened, which may name it."""
RENAMED = {
    "looks": "tta",
    "average": "ema",
    "image_size": "kind.size",
    "first_size": "kind.first_size",
    "eval_size": "kind.eval_size",
}
"""Fields of recipes that were written before, and what they are called now."""
ENCODER = "resnet18"
"""The network where nobody names any, of images."""
INVARIANCES = ("mirror", "flip", "rotation", "colour", "intensity")
"""What may keep the meaning of an image: its mirror image, its reflection top to bottom, turns by 90 degrees, other colours,
and another brightness or contrast."""
TURNS = {"flip": "flip", "turn": "rotation"}
"""Options of views that are off unless somebody asks for them, and on which invariance they rest."""
WEIGHTS = "checkpoint_path"
"""An option of timm's networks that recipes have no more: the untrained encoder had these weights, too."""
PACKAGED = Path(__file__).parent / "recipes"
"""The recipes that come with the package, in folders by data set."""


@dataclass(frozen=True, slots=True)
class Roles:
    """What the user says of the data: which column is what, and how many samples are taken.

    Attributes:
        label: the one that holds the classes; "" for the one that is known by its name.
        group: the one whose values, such as patients, are never divided between training and test split; "" for none.
        columns: pattern by which names of files make columns; see `unlabeled.data.columns.parts`.
        path: the one that names the files of a list; "" for the one that is known by its name, or holds such names.
        split: the one that says train or test of each sample; "" for one that is known by its name and says nothing else.
        limit: how many samples are taken, drawn by the seed, evenly over the classes; 0 for all.
        invariances: what keeps the meaning of a sample, some of `INVARIANCES` with commas between them, or none; "" for what
            the data declare.
        bears: what is added to that of data that declare nothing, as views that the user asks for presuppose it.
        where_possible: those of these that do not count where the data have no such column or names of files, or declare
            themselves what keeps their meaning.
    """

    label: str = ""
    group: str = ""
    columns: str = ""
    path: str = ""
    split: str = ""
    limit: int = 0
    invariances: str = ""
    bears: frozenset[str] = frozenset()
    where_possible: frozenset[str] = frozenset()

    def given(
        self,
        *,
        label: str | None = None,
        group: str | None = None,
        columns: str | None = None,
        path: str | None = None,
        split: str | None = None,
        limit: int | None = None,
        invariances: str | None = None,
        elsewhere: bool = False,
    ) -> Roles:
        """Returns what is said of a run's data, and anew where it is not None; on data `elsewhere`, what is not said of
        columns anew holds where they allow it, and all samples are taken.

        Raises:
            UserError: a negative limit.
        """
        of_limit({"limit": limit})
        named = {"label": label, "group": group, "columns": columns, "path": path, "split": split}
        named["invariances"] = invariances
        anew: dict[str, Any] = {name: value for name, value in named.items() if value is not None}
        old = frozenset(named.keys() - anew.keys())
        few = limit if limit is not None else 0 if elsewhere else self.limit
        return dataclasses.replace(self, **anew, limit=few, where_possible=old if elsewhere else frozenset())


@dataclass(frozen=True, slots=True)
class Recipe:
    """Everything that decides what a run computes. The same recipe, data and machine give the same run.

    Attributes:
        data: path or name of the data.
        columns: pattern by which names of files make columns, such as `{digit}_{speaker}_{index}`; "" for none.
        label: column of the classes; "" for the one that is known by its name, or the folders.
        more_labels: further columns of classes, which a method of several tasks learns beside `label`.
        group: column whose values are not divided between training and held-out samples, such as patient or speaker; "" for
            none.
        path: column of a list that names the files; "" for the one that is known by its name, or holds such names.
        split: column that says train or test of each sample; "" for one that is known by its name and says nothing else.
        limit: how many samples are taken, drawn by the seed, evenly over the classes; 0 for all.
        invariances: what keeps the meaning of a sample, so that views may do it: some of mirror, flip, rotation, colour and
            intensity, with commas between them, or none; "" for what the data declare.
        method: what learns, with its options.
        encoder: timm's name of the backbone, or `resnet9`, with its options (`width` for ResNets).
        start: where the encoder's weights come from: a run's folder, a `.safetensors` file, or `timm`; "" for noise.
        views: policy with its options; by default the one of the method's paper.
        optimizer: with its options; by default the one of the method's paper.
        kind: of the samples, with its options, such as the size of images or the rate of recordings; by default found from
            the data.
        tta: test-time augmentation: how many forms of a sample are encoded when it is judged after training; the
            representation is the mean. 1: the sample alone; 2: of an image, its mirror image too; 4: both in three quarters
            of the size too. Each takes its time, and helps a little (Simonyan and Zisserman 2015, "Very Deep Convolutional
            Networks", appendix B).
        ema: share of itself that an exponential moving average of the encoder's weights keeps at each step, in [0, 1); it is
            then judged in place of the encoder (Polyak and Juditsky 1992; as a moving average, Tarvainen and Valpola 2017).
            0: none.
        whiten: whether the representation is whitened after training, by up to 50,000 of the training images: centred, its
            directions scaled to the same variance. Nearest neighbours often gain much, linear classifiers little.
        epochs: passes over the training samples.
        batch_size: samples per step over all processes.
        accumulate: pieces in which a batch goes through the encoder, to train in the memory of one; the gradient is that of
            the whole batch (Gao et al. 2021). Batch norms of the encoder see a piece.
        labels: of how many samples the method may see the label, if it sees any: `100%`, `1%`, or `4` of each class; drawn
            by the seed, the same number of each class.
        hold_out_classes: how many classes, drawn by the seed, are kept out of training: images and labels. `evaluate` judges
            verification and few-shot on them.
        warmup_epochs: of linear warm-up; None: a tenth of the epochs, at most 10 (SimCLR, §2.3).
        lr_scaling: how the learning rate, stated for a batch of 256, follows the batch size: `linear`, `sqrt` or `none`; by
            default as the method's paper has it with its optimiser, else `linear`.
        precision: `auto` (bf16 where the machine computes in it, else 32), `bf16` or `32`.
        speed: `auto` (a few timed steps choose), or how to compute, such as `bf16 channels-last workers=1`; see `Speed`. The
            recipe that a run keeps says what was chosen.
        monitor_every: epochs between two looks at kNN accuracy and rank; 0 for never.
        keep: which epoch's encoder the run gives: `best`, that of the best look; `last`. None: `best` where enough samples
            have a label to look by, and the method learns from none; see `training.keep.keeps_best`.
        keep_every: epochs between two encoders that are kept beside; 0 for none.
        patience: epochs without a better look after which a run ends early; 0: never.
        seed: of everything random.
        paper: whether what is not given is as the method's paper has it, and not as suits such data and batches.
        about: what the recipe's author says of it (command, hardware, minutes, expected figure); not used.
    """

    data: str = ""
    columns: str = ""
    label: str = ""
    more_labels: tuple[str, ...] = ()
    group: str = ""
    path: str = ""
    split: str = ""
    limit: int = 0
    invariances: str = ""
    method: Choice = Choice("simclr")
    encoder: Choice = Choice(ENCODER)
    start: str = ""
    views: Choice = Choice("")
    optimizer: Choice = Choice("")
    kind: Choice = Choice("")
    tta: int = 1
    ema: float = 0.0
    whiten: bool = False
    epochs: int = 100
    batch_size: int = 256
    accumulate: int = 1
    labels: str = "100%"
    hold_out_classes: int = 0
    warmup_epochs: float | None = None
    lr_scaling: Scaling = "linear"
    precision: str = "auto"
    speed: str = "auto"
    monitor_every: int = 5
    keep: Keep | None = None
    keep_every: int = 0
    patience: int = 0
    seed: int = 0
    paper: bool = False
    about: dict[str, Any] = field(default_factory=dict)

    @property
    def roles(self) -> Roles:
        """What it says of the data."""
        bears = presupposed(self.views.options)
        return Roles(self.label, self.group, self.columns, self.path, self.split, self.limit, self.invariances, bears)

    def to_dict(self) -> dict[str, Any]:
        """Returns it as plain values: `{"method": {"name": "simclr", "temperature": 0.5, ...}, "epochs": 100, ...}`."""
        plain = {f.name: getattr(self, f.name) for f in dataclasses.fields(self)}
        return {k: {"name": v.name, **_plain(v.options)} if isinstance(v, Choice) else v for k, v in _plain(plain).items()}

    def to_yaml(self) -> str:
        """Returns the recipe as a YAML document that `read` takes."""
        return yaml.safe_dump(self.to_dict(), sort_keys=False, allow_unicode=True)


def presupposed(views: Mapping[str, Any]) -> frozenset[str]:
    """Returns the invariances that views with these options rest on and that nothing but a wish for them tells of.

    >>> sorted(presupposed({"flip": 0.5, "turn": 0.0}))
    ['flip']
    """
    return frozenset(invariance for option, invariance in TURNS.items() if float(views.get(option) or 0) > 0)


def packaged() -> list[str]:
    """Returns the names of the recipes that come with the package, such as `cifar10/simclr`, sorted."""
    return sorted(path.relative_to(PACKAGED).with_suffix("").as_posix() for path in PACKAGED.rglob("*.yaml"))


def is_recipe(text: str | Path) -> bool:
    """Tells whether text means a recipe, by its suffix or as the name of a packaged one."""
    return Path(text).suffix in (".yaml", ".yml") or str(text) in packaged()


def locate(recipe: str | Path) -> Path:
    """Finds a recipe's file: the one of that path, else the packaged one of that name, with or without `.yaml`.

    Raises:
        UserError: neither is there; it says which packaged one is nearest.

    >>> locate("digits/simclr").name
    'simclr.yaml'
    """
    name = str(recipe).removesuffix(".yaml")
    if not Path(recipe).is_file() and name in packaged():
        return PACKAGED / f"{name}.yaml"
    if not Path(recipe).exists():
        raise UserError(
            f"recipe {str(recipe)!r} cannot be read: it is neither a file nor a packaged one{nearest(name, packaged())}; "
            "`unlabeled recipes` lists those"
        )
    return Path(recipe)


def read(recipe: str | Path) -> dict[str, Any]:
    """Reads a recipe's mapping from a YAML file, or from the packaged one of that name.

    Raises:
        UserError: no such file, or not a YAML mapping.
    """
    path = locate(recipe)
    try:
        found = yaml.safe_load(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise UserError(f"recipe {str(path)!r} cannot be read ({error.strerror}): give a YAML file") from error
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise UserError(f"recipe {str(path)!r} is not YAML: {' '.join(str(error).split())}") from error
    if not isinstance(found, dict):
        raise UserError(f"recipe {str(path)!r} must hold a mapping such as 'epochs: 100', and holds {type(found).__name__}")
    if old := [name for name in RENAMED if name in found]:
        words = ", ".join(f"{name} is now {RENAMED[name]}" for name in old)
        console().print(f"{path}: an older recipe, read as it was meant: {words}", soft_wrap=True)
    return {
        RENAMED.get(str(name), str(name)): value for name, value in found.items() if not (name in RENAMED and value is None)
    }


def compose(
    *layers: Mapping[str, Any], prescribe: bool = True, usual: Usual | None = None, encoder: str = ENCODER
) -> Recipe:
    """Composes one recipe from mappings, later ones over earlier ones, over what is usual with such data and this encoder,
    over what the method's paper prescribes with it, over the defaults. `prescribe=False` leaves these two out: the recipe
    that a run kept was whole when it was written; an option that it does not name is newer, and is how things were before.
    `encoder` is the name of the one where nobody names any: that of the kind of data.
    A name in it that nobody has here, such as that of a function given in Python, stands with its options as they were: who
    builds it asks for it (`Run.needs`).

    Keys are fields of `Recipe`; `"method.temperature"` reaches an option. A choice given with another name replaces what
    was there with its options; options alone change it, whatever its name. Warm-up, and the rule by which a learning rate
    follows the batch size, go with the optimiser that a paper prescribes them for, and not with another. `{"paper": True}`
    leaves out what is usual.

    Raises:
        UserError: an unknown field, name or option, or a value that cannot be.

    >>> compose({"method": "moco"}, {"method.temperature": "0.1", "epochs": "3"}).method.options["temperature"]
    0.1
    """
    given: dict[str, Any] = {}
    for layer in layers:
        given = _merge(given, _nested(layer))
    if not prescribe:
        return _checked(_merge(_plain_defaults(), _formerly(given)), kept=True)
    entry = get("methods", given.get("method", {}).get("name", Recipe().method.name))
    whose = _merge(_nested(entry.recipe), given).get("encoder", {}).get("name", encoder)
    paper = _nested(entry.prescribed(whose, given))
    if usual and not coerce(given.get("paper", False), bool, "paper"):
        given = _merge(_nested(usual(entry, whose, paper)), given)
    if given.get("optimizer", {}).get("name", "") not in ("", paper.get("optimizer", {}).get("name")):
        paper = {name: value for name, value in paper.items() if name not in ("lr_scaling", "warmup_epochs")}
    given = _merge(paper, given)
    if WEIGHTS in given.get("encoder", {}):
        raise UserError(
            "--encoder.checkpoint-path gives the weights to the untrained encoder, too, with which the run is compared, and "
            "needs the file ever after: give --from FILE.safetensors in its place"
        )
    return _checked(_merge(_plain_defaults(encoder), given))


def _plain_defaults(encoder: str = ENCODER) -> dict[str, Any]:
    named = {"views": {"name": "simclr"}, "optimizer": {"name": "sgd"}, "encoder": {"name": encoder}}
    return Recipe().to_dict() | named


def _formerly(given: dict[str, Any]) -> dict[str, Any]:
    """What a run kept, with the options that it was written before as they were then."""
    kinds = {key: kind for key, kind in CHOICES.items() if kind and given.get(key, {}).get("name") in names(kind)}
    return given | {key: {**get(kind, given[key]["name"]).formerly, **given[key]} for key, kind in kinds.items()}


def difference(recipe: Recipe, other: Recipe) -> dict[str, str]:
    """Returns the options, as they are typed, that a recipe has and another has not; of a choice with another name, that.

    >>> difference(compose({"views.scale": "0.2,1", "epochs": 3}), compose({}))
    {'views.scale': '0.2,1.0', 'epochs': '3'}
    """
    found: dict[str, str] = {}
    for field_ in dataclasses.fields(Recipe):
        name, ours, theirs = field_.name, getattr(recipe, field_.name), getattr(other, field_.name)
        if not isinstance(ours, Choice):
            ours, theirs, prefix = {name: ours}, {name: theirs}, ""
        elif ours.name != theirs.name:
            ours, theirs, prefix = {name: ours.name}, {}, ""
        else:
            ours, theirs, prefix = ours.options, theirs.options, f"{name}."
        found |= {prefix + key: _typed(value) for key, value in ours.items() if value != theirs.get(key)}
    return found


def _typed(value: Any) -> str:
    return ",".join(map(str, value)) if isinstance(value, tuple | list) else str(value)


def _checked(plain: dict[str, Any], *, kept: bool = False) -> Recipe:
    """The recipe of checked values; in one that was `kept`, names that nobody has here stay as they are."""
    hints = get_type_hints(Recipe)
    values: dict[str, Any] = {}
    for key, value in plain.items():
        if key in CHOICES:
            options = {k: v for k, v in value.items() if k != "name"}
            kind, name = CHOICES[key], value["name"]
            if kind and (name in names(kind) or not kept):
                values[key] = get(kind, name).resolve(options)
            else:
                values[key] = Choice(name, {k: _scalar(v) for k, v in options.items()})
        else:
            values[key] = coerce(value, hints[key], key.replace("_", "-"))
    recipe = Recipe(**values)
    least_values = {"epochs": 0, "batch_size": 1, "monitor_every": 0, "seed": 0, "warmup_epochs": 0, "accumulate": 1}
    least_values |= {"hold_out_classes": 0, "keep_every": 0, "patience": 0, "limit": 0}
    for name, least in least_values.items():
        value = getattr(recipe, name)
        if value is not None and value < least:
            raise UserError(f"{name.replace('_', '-')} is {value}, and must be at least {least}")
        if value is not None and value >= 2**63:
            raise UserError(f"{name.replace('_', '-')} is {value}, and must be a number of at most 63 bits")
    if recipe.tta not in (1, 2, 4):
        raise UserError(f"tta is {recipe.tta}, and must be 1, 2 (the mirror image too) or 4 (both smaller, too)")
    if not 0 <= recipe.ema < 1:
        raise UserError(f"ema is {recipe.ema:g}, and must be from 0 to below 1, such as 0.999")
    if recipe.warmup_epochs is not None and recipe.warmup_epochs > recipe.epochs:
        raise UserError(
            f"warmup-epochs is {recipe.warmup_epochs:g}, and must be at most the {counted(recipe.epochs, 'epochs')} "
            "of the run"
        )
    if recipe.precision not in ("auto", "bf16", "32"):
        raise UserError(f"precision is {recipe.precision!r}, and must be auto, bf16 or 32")
    if recipe.speed != "auto":
        _check_speed(recipe)
    return recipe


def _check_speed(recipe: Recipe) -> None:
    from unlabeled.compute.speed import Speed

    if recipe.precision not in ("auto", "bf16" if Speed.parse(recipe.speed).bf16 else "32"):
        raise UserError(f"precision is {recipe.precision}, and speed {recipe.speed!r}: leave one out, or let them agree")


def _nested(layer: Mapping[str, Any]) -> dict[str, Any]:
    known = {f.name: f for f in dataclasses.fields(Recipe)}
    nested: dict[str, Any] = {}
    for key, value in layer.items():
        head, _, option = str(key).replace("-", "_").partition(".")
        if head not in known:
            raise UserError(f"a recipe has no field {head!r}{nearest(head, known)}; its fields: {', '.join(known)}")
        if head not in CHOICES:
            if option:
                raise UserError(f"{head!r} has no options, so {key!r} means nothing; write --{head.replace('_', '-')} VALUE")
            nested[head] = value
        elif option:
            nested.setdefault(head, {})[option] = value
        else:
            chosen = {str(k): v for k, v in value.items()} if isinstance(value, Mapping) else {"name": str(value)}
            if not isinstance(chosen.get("name", ""), str):
                raise UserError(f"the name of {head} is {chosen['name']!r}, and must be text")
            nested[head] = nested.get(head, {}) | chosen
    return nested


def _merge(under: dict[str, Any], over: dict[str, Any]) -> dict[str, Any]:
    merged = dict(under)
    for key, value in over.items():
        before = under.get(key, {}) if key in CHOICES else {}
        same = key in CHOICES and ("name" not in value or value["name"] == before.get("name", value["name"]))
        merged[key] = before | value if same else value
    return merged


def _scalar(value: Any) -> Any:
    """Text as YAML reads it, and `1e-3` as the number that it is; for options whose types are not known here."""
    if not isinstance(value, str):
        return value
    with suppress(ValueError):
        return int(value) if value.lstrip("-").isdecimal() else float(value)
    try:
        return yaml.safe_load(value)
    except yaml.YAMLError:
        return value


def _plain(options: Mapping[str, Any]) -> dict[str, Any]:
    return {k: list(v) if isinstance(v, tuple) else v for k, v in options.items()}
