"""`open_data`: from what the user said to an opened train and test split."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from torch import Tensor
from torch.utils.data import Dataset

from unlabeled import registry
from unlabeled.console import console
from unlabeled.data.chosen import divided, limited
from unlabeled.data.columns import column, fits, numbered, parts, shared
from unlabeled.data.formats.archive import open_zip
from unlabeled.data.formats.arrays import ANY, open_arrays, open_dataset, open_npz
from unlabeled.data.formats.folder import open_folder
from unlabeled.data.formats.listed import open_list
from unlabeled.data.formats.parquet import open_parquet
from unlabeled.data.formats.parts import in_parts
from unlabeled.data.kinds.kind import build, suffix_of, suffixes
from unlabeled.data.labels import labels_of
from unlabeled.data.reader import Listing, Splits
from unlabeled.data.source import Source, open_source
from unlabeled.data.split import BALANCED, BY_CONTENT, even_draw, hold_out, hold_out_by, seed_in
from unlabeled.errors import UserError
from unlabeled.recipe import INVARIANCES, Roles
from unlabeled.registry import Choice
from unlabeled.words import counted

Array = np.ndarray[Any, Any]

USUAL = Roles()
"""Labels known by the name of their column, or folders of them; no groups."""
_PARTS = re.compile(r",(?=(?:train|test|val)=)")
_CHECK_SECONDS = 1.5, 0.5  # of train and of test


@dataclass(frozen=True, slots=True)
class Data:
    """An opened data set.

    Attributes:
        train: what is learned from.
        test: what is judged on; None if there is none.
        split: how test was held out of the only split there was, say so beside every figure; "" where it was not.
        group: the column whose values the splits must not share, "" for none.
        undivided: whether nothing could be held out, as all samples are the same, or of one group.
        instead: says by which seed test was held out where the one asked for leaves all on one side; "" where it does not.
    """

    train: Source
    test: Source | None
    split: str = ""
    group: str = ""
    undivided: bool = False
    instead: str = ""

    @property
    def held_out(self) -> bool:
        """Whether test is a part of the only split there was."""
        return bool(self.split)

    def same_as(self, recorded: Mapping[str, Any]) -> bool | None:
        """Tells whether a run that recorded this of its data was trained on `train`; see `Source.same_as`."""
        if recorded.get("held_out") and recorded.get("split", BALANCED) != self.split:
            return False
        same = self.train.same_as(recorded)
        numbers = len(self.train), 0 if self.test is None else len(self.test)
        return False if same is None and numbers != (recorded["train"], recorded.get("test")) else same

    def labelled_by(self, label: str) -> Data:
        """Returns the same splits with the labels of another column, or with their own for "".

        Raises:
            UserError: no such column, or one that holds no classes.
        """
        train = self.train.labelled_by(label)
        if self.test is None:
            return replace(self, train=train)
        test = self.test.labelled_by(label, train)
        return replace(self, train=train.among(test.classes), test=test)

    def limited(self, limit: int, seed: int) -> Data:
        """Returns so many of the samples in all, of each split its share, evenly over the classes; 0 is all."""
        of = len(self.train) + (0 if self.test is None else len(self.test))
        if not 0 < limit < of:
            return self

        def few(source: Source) -> Source:
            return source.subset(even_draw(len(source), source.labels, max(1, round(limit * len(source) / of)), seed))

        return replace(self, train=few(self.train), test=self.test and few(self.test))

    def tell(self) -> None:
        """Prints what was read otherwise than one may think, or not at all."""
        for said in self.notices():
            console().print(said, soft_wrap=True)

    def held(self) -> str:
        """Returns what is held out, in words; "" for nothing."""
        if not self.held_out or self.test is None:
            return ""
        share = f"{len(self.test):,} of {counted(len(self.train) + len(self.test), self.train.kind.nouns)}"
        if not self.group:
            return f"{share} {'is' if len(self.test) == 1 else 'are'} held out"
        kept, held = (len(numbered(source.columns[self.group])[1]) for source in (self.train, self.test))
        values = f"{held:,} of {counted(kept + held, 'values')} of {self.group!r}"
        return f"{values} {'is' if held == 1 else 'are'} held out, {share}"

    def clusters(self) -> tuple[str, Array] | None:
        """Tells which test samples are not independent, as they have one value of the group, or are parts of one file: what
        they share, in a word, and the cluster of each, (M,) int64. None where each stands alone."""
        test = self.test
        if test is None:
            return None
        source = "source" if "source" in test.columns and "source" not in test.named else ""
        for name, word in ((self.group, self.group), (source, "file")):
            if name in test.columns:
                which, values = numbered(test.columns[name])
                own = len(values) + np.arange(len(which))  # of those without a value
                if len(values) < int((which >= 0).sum()):
                    return word, np.where(which < 0, own, which)
        return None

    def remarks(self, used: Sequence[str] = ()) -> list[str]:
        """Returns what the user should know of files, columns, labels, groups and the cache, in sentences; `used` are
        columns that the method learns beside the labels."""
        said = [*self.notices(), *self._columns(used)]
        left = sorted(self.train.kind.allowed(self.train.kind.invariances, self.train.form) - self.train.invariances)
        if self.train.by_user and left:
            said.append(f"Views leave {', '.join(left)} as it is: --invariances does not name it.")
        said += list(dict.fromkeys(f"{s.uncached}." for s in (self.train, self.test) if s is not None and s.uncached))
        if self.group and self.test is not None and not self.held_out and self.group in self.test.columns:
            both, values, samples = shared(self.train.columns[self.group], self.test.columns[self.group])
            if both:
                said.append(
                    f"Groups are torn: {len(both):,} of the {counted(values, 'values')} of {self.group!r} in the test split "
                    f"({', '.join(both[:3])}{', ...' * (len(both) > 3)}) are in train, too, with {samples:,} of its "
                    f"{counted(len(self.test), self.train.kind.nouns)}: figures say little of new ones."
                )
        there = [source for source in (self.train, self.test) if source is not None and self.group in source.columns]
        gaps = sum(int((numbered(source.columns[self.group])[0] < 0).sum()) for source in there)
        if gaps:
            said.append(
                f"{gaps:,} of {counted(sum(map(len, there)), self.train.kind.nouns)} have no value of {self.group!r}: "
                "they are trained on, though they may be of a group that is held out. Fill them in, or leave them out of "
                "the list."
            )
        if self.test is not None and self.test.labels is not None and self.train.labels is not None:
            tested = self.test.labels[self.test.labels >= 0]
            strange = int((~np.isin(tested, self.train.labels)).sum())
            if self.held_out:
                said += self._missing(self.train.labels, tested)
            if strange:
                said.append(
                    f"Of {len(tested):,} labelled test {self.train.kind.nouns}, {strange:,} are of classes of which "
                    "none is trained on: no classifier can know them."
                )
        return said

    def notices(self) -> list[str]:
        """Returns what was read otherwise than one may think, or not at all, in sentences."""
        there = [source for source in (self.train, self.test) if source is not None]
        alone = [f"{self.alone()}; figures need train=PATH,test=PATH."] if self.undivided else []
        said = [*dict.fromkeys(remark for source in there for remark in source.notices), *alone]
        return [*said, self.instead] if self.instead else said

    def alone(self) -> str:
        """Says that nothing could be held out, and why."""
        train = self.train
        what = f"of one value of {self.group!r}" if self.group else "the same"
        return f"{train.name}: no {train.kind.noun} is held out, as all {len(train):,} are {what}"

    def _columns(self, used: Sequence[str]) -> list[str]:
        """Says which columns are not used, and why there are no labels."""
        train = self.train
        said = [f"No labels: {train.remark}."] if train.remark else []
        rest = [name for name in train.named if name not in (train.label, self.group, *used)]
        if not rest:
            return said
        listed = ", ".join(rest[:5]) + f" and {len(rest) - 5:,} more" * (len(rest) > 5)
        if train.label or train.labels is not None or said:
            return [*said, f"Not used of the columns: {listed}" + f" (labels: {train.label})" * bool(train.label) + "."]
        return [f"No labels: no column is called label, class or the like; --label takes one of {listed}."]

    def _missing(self, trained: Array, tested: Array) -> list[str]:
        """Says which classes have no sample on the side that is held out."""
        train = self.train
        missing = [c for i, c in enumerate(train.classes) if i in trained and i not in tested]
        if not missing:
            return []
        which = f"{', '.join(missing[:3])}{', ...' * (len(missing) > 3)}"
        return [
            f"Of {len(missing):,} of the {counted(len(train.classes), 'classes')} ({which}) no {train.kind.noun} is "
            "held out, as content alone decides: figures say nothing of them. Another --seed, or more of them, may help."
        ]


def open_data(
    data: Any,
    *,
    kind: Choice = ANY,
    channels: int | None = None,
    root: str | Path | None = None,
    seed: int | None = 0,
    roles: Roles = USUAL,
    split: str | None = BY_CONTENT,
    judged: bool = False,
) -> Data:
    """Opens a data set, checks some thousand samples of it, for about 2 s at most, and holds out a test set if it has none.

    Args:
        data: a path (folder, zip, Parquet, .npz, .npy, a .csv or .txt that lists images), a registered name,
            `train=PATH,test=PATH`, an array (n, H, W[, C]), a tuple (images, labels), a dict of arrays, recordings as arrays
            (n, samples), a `torch.utils.data.Dataset`, or an opened `Data`. A name wins over a folder of the same name:
            write `./name` for the folder.
        kind: of the samples, with its options; one without a name is found from the data.
        channels: as an encoder wants them, to convert to where that has a meaning (grey and RGB); None for what they are.
        root: where named sets are looked for and downloaded to; default `$UNLABELED_DATA`.
        seed: of the held-out split, and of the draw of a part of the samples; None is 0, and holds nothing out.
        roles: which of its columns are what, and how many samples are taken.
        split: how samples are held out, each by its content, or its group's name, and the seed, or the seed that a run names
            here; `BALANCED` is for runs of earlier versions; None holds nothing out.
        judged: whether an encoder is asked for its features, and the samples are not learned from: it is then shown what it
            would see of the files themselves. The kind is then a run's.

    Raises:
        UserError: anything wrong with the data: one line that names the value, the reason and the remedy.
    """
    if isinstance(data, Data):
        return data
    train, test = _listings(data, root, kind, roles)
    if roles.columns:
        train, test = _with_parts(train, roles), test and _with_parts(test, roles)
    made = build(Choice(train.kind, kind.options))
    train, test, roles = _divided(in_parts(train, made), test and in_parts(test, made, "test split"), roles)
    if roles.limit:
        train, test = _few(train, test, roles, 0 if seed is None else seed)
    group = column(train.columns, roles.group, "--group", train.name) if roles.group else None
    needed = "label" not in roles.where_possible
    labels = labels_of(train, roles.label, needed=needed)
    seconds = sum(_CHECK_SECONDS) if test is None else _CHECK_SECONDS[0]
    source = open_source(train, labels, made, None, seconds, channels, judged=judged)
    if test is not None:
        tested = labels_of(test, roles.label, labels, needed)
        second = open_source(test, tested, made, source.form, _CHECK_SECONDS[1], channels, len(source))
        given = train.group if train.group in second.columns else ""
        return Data(source.among(second.classes), second, group=roles.group or given)
    if not roles.group and train.group:
        roles, group = replace(roles, group=train.group), train.columns[train.group]
    if seed is None or split is None:
        return Data(source, None, group=roles.group)
    rest, held, by = _sides(source, group, seed, split, source.name + f": column {roles.group!r}" * bool(roles.group))
    if not len(held):
        return Data(source, None, group=roles.group, undivided=True)
    said = ""
    if by not in (None, seed):
        what = f"values of {roles.group!r}" if roles.group else source.kind.nouns
        why = f"seed {seed} leaves all {what} on one side, and " if by != seed_in(split, seed) else ""
        said = f"{source.name}: {why}what is held out is as seed {by} has it{', as in the run' * (not why)}."
        split = f"{BY_CONTENT} {by}"
    return Data(source.subset(rest), source.subset(held), split, roles.group, instead=said)


def is_relative(words: str) -> bool:
    """Tells whether words for data mean something else in another folder."""
    several = re.match(r"(train|test|val)=", words)
    parts = [part.partition("=")[2] for part in re.split(_PARTS, words)] if several else [words]
    free = [part for part in parts if part and part not in registry.names("data") and not part.startswith("~")]
    return any(not Path(part).is_absolute() for part in free)


def placed(words: str, folder: str) -> str:
    """Returns the words that mean here what `words` meant in a folder: relative paths that are there begin with it."""
    if re.match(r"(train|test|val)=", words):
        parts = [part.partition("=") for part in re.split(_PARTS, words)]
        return ",".join(f"{key}={placed(value, folder)}" for key, _, value in parts)
    there = Path(folder) / words
    if not (folder and words) or words in registry.names("data") or words.startswith("~") or not there.exists():
        return words
    return words if Path(words).exists() and there.samefile(words) else str(there)


def _divided(train: Listing, test: Listing | None, roles: Roles) -> tuple[Listing, Listing | None, Roles]:
    """Training and test split, as they come or as a column says; and what counts of the roles."""
    roles = _possible(roles, train)
    train = _bearing(train, roles)
    test = test and replace(test, invariances=train.invariances)
    needed = bool(roles.split) and "split" not in roles.where_possible
    if test is not None and needed:
        raise UserError(f"{train.name}: --split {roles.split!r}, and the data have a test split: leave one out")
    if test is None:
        train, test = divided(train, roles.split, needed)
    return train, test, roles


def _bearing(train: Listing, roles: Roles) -> Listing:
    """The split with what keeps the meaning of a sample: as the user says, or the data do; where neither does, also what
    the views that are asked for rest on."""
    if not roles.invariances or (train.invariances is not None and "invariances" in roles.where_possible):
        if train.invariances is not None or not roles.bears:
            return train
        return replace(train, invariances=build(Choice(train.kind)).invariances | roles.bears)
    said = frozenset(word for part in roles.invariances.split(",") if (word := part.strip().lower()) not in ("", "none"))
    if strange := sorted(said - set(INVARIANCES)):
        near = registry.nearest(strange[0], INVARIANCES)
        raise UserError(f"--invariances takes some of {', '.join(INVARIANCES)}, or none, and not {strange[0]!r}{near}")
    return replace(train, invariances=said, by_user=True)


def _few(train: Listing, test: Listing | None, roles: Roles, seed: int) -> Splits:
    """As many samples of both splits as are asked for."""
    needed = "label" not in roles.where_possible
    labels, of = labels_of(train, roles.label, needed=needed), len(train.reader) + (0 if test is None else len(test.reader))
    if test is not None:
        test = limited(test, labels_of(test, roles.label, labels, needed), roles.limit, of, seed)
    return limited(train, labels, roles.limit, of, seed), test


def _sides(source: Source, group: Array | None, seed: int, split: str, name: str) -> tuple[Array, Array, int | None]:
    """Positions of train and test, and the seed by which they are."""
    kind = source.kind
    if split == BALANCED:
        groups = None if group is None else numbered(group)[0]
        return *hold_out(len(source), source.labels, seed, name, noun=kind.noun, groups=groups), seed
    return hold_out_by(source.contents() if group is None else group_keys(group), seed_in(split, seed))


def group_keys(group: Array) -> list[bytes | None]:
    """Returns by what groups are held out: their names; None where there is none."""
    which, names = numbered(group)
    keys: list[bytes | None] = [name.encode("utf-8", "surrogateescape") for name in names]
    return [keys[i] if i >= 0 else None for i in which.tolist()]


def _possible(roles: Roles, train: Listing) -> Roles:
    """Without columns that the data do not have and need not have."""
    names = {"label": roles.label, "group": roles.group, "split": roles.split}
    label, group, split = (
        "" if part in roles.where_possible and name not in train.columns else name for part, name in names.items()
    )
    return replace(roles, label=label, group=group, split=split)


def _with_parts(listing: Listing, roles: Roles) -> Listing:
    """The split with columns made of the names of its files, too."""
    paths = [listing.reader.path(i) for i in range(len(listing.reader))]
    if "columns" in roles.where_possible and not fits(roles.columns, paths):
        return listing
    found = parts(roles.columns, paths, listing.name)
    if both := set(found) & set(listing.columns):
        raise UserError(f"{listing.name}: --columns names {min(both)!r}, and there is such a column: give it another name")
    return replace(listing, columns={**listing.columns, **found})


def _listings(data: Any, root: str | Path | None, kind: Choice, roles: Roles) -> Splits:
    if isinstance(data, Path):
        return _open_path(data, str(data), kind, roles)
    if isinstance(data, str):
        return _open_words(data, root, kind, roles)
    _check_path(roles, "arrays")
    if isinstance(data, np.ndarray | Tensor | tuple | Mapping):
        return open_arrays(data, "arrays", kind)
    if isinstance(data, Dataset) or hasattr(data, "__getitem__"):
        return open_dataset(data, type(data).__name__, kind)
    raise UserError(
        f"data of type {type(data).__name__}: give a path, a name, arrays, (images, labels), or a torch.utils.data.Dataset"
    )


def _check_path(roles: Roles, name: str) -> None:
    if roles.path and "path" not in roles.where_possible:
        raise UserError(
            f"{name}: --path {roles.path!r} names the column of the files of a list: give a .csv or .txt, or leave it out"
        )


def _open_words(text: str, root: str | Path | None, kind: Choice, roles: Roles) -> Splits:
    if re.match(r"(train|test|val)=", text):
        return _open_pair(text, root, kind, roles)
    if text in registry.names("data"):
        _check_path(roles, text)
        return _named(text, root)
    if not text.strip():
        raise UserError("no data given: name a path or a data set, for example digits")
    path = Path(text).expanduser()
    if path.exists() or path.is_symlink():
        return _open_path(path, text, kind, roles)
    known = registry.names("data")
    if len(path.parts) > 1:
        raise UserError(_missing(path, text))
    near = registry.nearest(text, known)
    raise UserError(f"{text!r} is neither an existing path nor a named data set{near}; known names: {', '.join(known)}")


def _named(text: str, root: str | Path | None) -> Splits:
    """The set of that name; what of the same name lies here is said."""
    train, test = registry.get("data", text).make(text, root)
    if not os.path.lexists(text):
        return train, test
    what = "folder" if Path(text).is_dir() else "file"
    said = f"{text!r} is the data set of that name that unlabeled knows; for the {what} of that name here write ./{text}."
    return replace(train, remarks=(*train.remarks, said)), test


def _open_pair(text: str, root: str | Path | None, kind: Choice, roles: Roles) -> Splits:
    """`train=A,test=B`: of each the split asked for, where it has splits itself."""
    parts: dict[str, str] = {}
    for part in re.split(_PARTS, text):
        key, _, value = part.partition("=")
        key = "test" if key == "val" else key
        if key in parts or not value:
            raise UserError(f"{text!r}: {key}= is given twice or without a path: write train=PATH,test=PATH")
        parts[key] = value
    if set(parts) != {"train", "test"}:
        missing = "test" if "train" in parts else "train"
        raise UserError(f"{text!r}: {missing}= is missing: write train=PATH,test=PATH, or the path alone")
    train = _open_words(parts["train"], root, kind, roles)[0]
    first, second = _open_words(parts["test"], root, replace(kind, name=kind.name or train.kind), roles)
    test = replace(second or first, kind=train.kind, invariances=train.invariances)
    return replace(train, name=text), replace(test, name=text)


def _open_path(path: Path, name: str, kind: Choice, roles: Roles) -> Splits:
    if not path.exists():
        raise UserError(_missing(path, name))
    asked, suffix = kind.name, suffix_of(path.name)
    if path.is_file() and suffix in (".csv", ".txt"):
        return open_list(path, name, asked, [roles.path, ""] if "path" in roles.where_possible else [roles.path])
    _check_path(roles, name)
    if path.is_dir():
        return open_folder(path, name, asked)
    if not path.is_file():
        raise UserError(f"{name}: a pipe or a device, which cannot be read twice: write it to a file, and give that")
    if suffix == ".zip":
        return open_zip(path, name, asked)
    if suffix in (".parquet", ".pq"):
        return open_parquet(path, name, asked)
    if suffix in (".npz", ".npy"):
        return open_npz(path, name, kind)
    if suffix in suffixes():
        single = build(Choice(suffixes()[suffix]))
        raise UserError(f"{name}: a single {single.noun}: give the folder that holds the {single.nouns}")
    if suffix in (".tar", ".gz", ".tgz", ".xz", ".bz2", ".7z", ".rar"):
        raise UserError(f"{name}: this archive cannot be read in place: unpack it and give the folder")
    known = "a .zip, a .parquet, a .npz, a .npy, or a .csv or .txt that lists files"
    raise UserError(f"{name}: unknown kind of file {suffix!r}: give a folder, {known}")


def _missing(path: Path, name: str) -> str:
    parent = path.parent
    if not parent.is_dir():
        return f"{name}: no such file or folder, and no folder {parent} either: check the path"
    return f"{name}: no such file or folder{registry.nearest(path.name, os.listdir(parent)) or ': check the path'}"  # noqa: PTH208
