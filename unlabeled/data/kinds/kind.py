"""What a sample is: the interface of a kind of data, and how one is found from names of files."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Protocol

import numpy as np
from torch import Tensor

from unlabeled import registry
from unlabeled.batch import Fields, Progress
from unlabeled.data.kinds.fit import Fit
from unlabeled.errors import UserError
from unlabeled.registry import Choice
from unlabeled.words import counted

if TYPE_CHECKING:
    from unlabeled.data.reader import Reader
    from unlabeled.encoders import Encoder

STRAYS = 10
"""Files of one sort among so many times as many of another that are strays. Ours."""

Array = np.ndarray[Any, Any]


@dataclass(frozen=True, slots=True)
class Form:
    """What every sample of a source is once it is decoded.

    Attributes:
        fields: name -> NumPy's type and shape of one sample.
        channels: of a sample.
        size: of a sample along each other axis: pixels of a side, numbers of a recording.
        native: medians of what was found: (height, width) of images, (numbers, rate) of recordings.
        rate: numbers in a second of a recording; 0 where that has no meaning.
        values: the range of values that becomes black and white; see `unlabeled.data.kinds.values.pairs`.
        fit: what becomes of a picture that is not square: crop, pad or stretch.
        finely: whether samples are read for an encoder that judges them, and kept more finely than in bytes.
        how: what else decides what a sample is once decoded, so that no other is taken for it.
        said: what was decided from the samples, without the full stop.
        shown: what a picture of a sample is, in a word.
    """

    fields: Mapping[str, tuple[str, tuple[int, ...]]]
    channels: int
    size: int
    native: tuple[int, ...]
    rate: int = 0
    values: str = ""
    fit: Fit = "crop"
    finely: bool = False
    how: str = ""
    said: tuple[str, ...] = ()
    shown: str = "original"


class Kind(Protocol):
    """One kind of data. Its keyword-only constructor arguments are its options, `--kind.NAME VALUE`.

    Attributes:
        name: as it is registered; also the name of the field that the encoder sees.
        noun, nouns: one sample, and several, in sentences.
        suffixes: of its files, in lower case, with the dot.
        invariances: what views may do to a sample unless a data set declares otherwise.
        raw: name of the features that need no encoder, a baseline of every table.
        reading: its options that say what a sample is made of, which other data than the run's may be given anew; those of
            what the encoder takes are the run's for ever.
        version: of its decoding; raised whenever that gives other values than before, as decoded samples are kept.
        method: one that learns from it, for advice.
        policy: of views, for methods that prescribe none of this kind.
        encoder_name: the default encoder.
    """

    name: ClassVar[str]
    noun: ClassVar[str]
    nouns: ClassVar[str]
    suffixes: ClassVar[frozenset[str]]
    invariances: ClassVar[frozenset[str]]
    raw: ClassVar[str]
    reading: ClassVar[tuple[str, ...]]
    version: ClassVar[int]
    method: ClassVar[str]
    policy: ClassVar[str]
    encoder_name: ClassVar[str]

    def open(self, source: bytes | Path) -> Any:
        """Opens a raw sample, a file, of which only the header need be read. Raises anything if it is bad."""
        ...

    def native(self, raw: Any) -> tuple[int, ...]:
        """Returns what `Form.native` holds, of one raw sample."""
        ...

    def survey(self, reader: Reader, name: str, channels: int | None, *, judged: bool = False) -> Form:
        """Finds what samples of a split are, from some of them.

        Args:
            reader: of the split.
            name: of the data, for messages.
            channels: to convert to where that has a meaning; None for what they are.
            judged: whether by an encoder alone, which is to see what it would of the samples themselves; they are not
                learned from.

        Raises:
            UserError: none of them can be read, or an option that they do not allow.
        """
        ...

    def like(self, reader: Reader, form: Form, name: str, channels: int | None) -> None:
        """Checks that a test split has the form of its training split.

        Raises:
            UserError: it cannot.
        """
        ...

    def ready(self, reader: Reader, form: Form) -> dict[str, Array] | None:
        """Returns all samples as they are decoded, where the split is in memory already and needs no decoding."""
        ...

    def decode(self, raw: Any, form: Form) -> Mapping[str, Any]:
        """Decodes one sample: field -> array. Raises anything if it is bad."""
        ...

    def resolved(self, form: Form) -> Choice:
        """Returns this kind with what its options leave open filled in from the data."""
        ...

    def view_size(self, at: Progress) -> int:
        """Returns the size of a view along each axis, at that time of the training."""
        ...

    def usual(self, views: Choice, form: Form, invariances: frozenset[str]) -> tuple[str, Mapping[str, Any]] | None:
        """Returns what such samples bear in place of the views that a paper prescribes: why, and options of these, or a
        policy with a name; None where the paper's are as good."""
        ...

    def milder(self, views: Choice) -> tuple[str, dict[str, str]] | None:
        """Returns what to try where a run with such views did not help: why, and options of the views as one types them;
        None if there is nothing of this kind."""
        ...

    def allowed(self, invariances: frozenset[str], form: Form) -> frozenset[str]:
        """Returns, of the invariances that a data set declares, those that its form allows."""
        ...

    def fitted(self, choice: Choice, form: Form) -> Choice:
        """Returns an encoder with what its options leave open chosen by the data. Asked of a kind that is resolved."""
        ...

    def encoder(self, choice: Choice, channels: int, sample: Fields | None) -> Encoder:
        """Builds the untrained encoder that `choice` names.

        Args:
            choice: name and options.
            channels: of a sample.
            sample: of the training data, for the statistics that it normalises by; None: they come with the weights.
        """
        ...

    def describe(self, form: Form) -> str:
        """Returns what the samples are natively, in words: `640×480, 3 channels`."""
        ...

    def views(self) -> str:
        """Returns the size of the views, in words: `16 to 24 px`."""
        ...

    def pictures(self, x: Fields, form: Form) -> Tensor:
        """Returns samples for people to look at: uint8 (B, C, H, W)."""
        ...

    def shown(self, view: Tensor, form: Form) -> Tensor:
        """Returns views (B, ...) of one draw for people to look at: uint8 (B, C, H, W), or (B, P, C, H, W) of P patches."""
        ...

    def features(self, x: Fields, form: Form) -> Tensor:
        """Returns the features that need no encoder: (B, D) float32."""
        ...


def build(choice: Choice) -> Kind:
    """Builds the kind that is named, with its options."""
    made: Kind = registry.build("kinds", choice)
    return made


def as_then(choice: Choice) -> Choice:
    """Returns the kind that an earlier version kept, with the options that it had not as data were read then."""
    return Choice(choice.name, {**registry.get("kinds", choice.name).formerly, **choice.options})


def sees(made: Any) -> tuple[str, ...]:
    """Returns the kinds of data that a method or a policy says it takes; images where it says none."""
    kinds: tuple[str, ...] = getattr(made, "sees", ("image",))
    return kinds


@cache
def suffixes() -> Mapping[str, str]:
    """Returns the suffix of a file -> the kind that reads it."""
    return {suffix: name for name in registry.names("kinds") for suffix in _class(name).suffixes}


def _class(name: str) -> type[Kind]:
    made: Any = registry.get("kinds", name).make
    return made  # type: ignore[no-any-return]


def suffix_of(path: str) -> str:
    """Returns the suffix of a file in lower case, with the dot, also one of two parts that a kind knows (`.nii.gz`)."""
    name = path.rsplit("/", 1)[-1].lower()
    two = "." + ".".join(name.split(".")[-2:])
    return two if two in suffixes() and name != two[1:] else name[name.rfind(".") :] if "." in name else ""


def left(paths: Iterable[str], taken: Sequence[str]) -> tuple[str, ...]:
    """Says which files of a folder are not read, by their suffixes; nothing where there are none."""
    rest = set(paths) - set(taken)
    counts = Counter(suffix_of(path) or "without a suffix" for path in rest if is_shown(path))
    if not counts:
        return ()
    common = sorted(counts.items(), key=lambda item: (-item[1], item[0]))[:5]
    listed = [f"{count:,} {suffix}" for suffix, count in common] + [f"and {len(counts) - 5} other kinds"] * (len(counts) > 5)
    return (f"{counted(counts.total(), 'other files', 'are')} not read: {', '.join(listed)}.",)


def is_shown(path: str) -> bool:
    """Tells whether a name is that of a file that is meant to be seen (not hidden, not a system's companion file)."""
    return "/." not in f"/{path}" and "__MACOSX/" not in path


def of_files(paths: Iterable[str], asked: str, name: str, known: Mapping[str, str] | None = None) -> tuple[str, list[str]]:
    """Returns the kind of some files, and those of them that are of it.

    Args:
        paths: relative.
        asked: the kind that the user names; "" where it is to be found.
        name: of the data, for messages.
        known: kinds of files whose suffix does not tell them.

    Returns:
        ("", []) if there is no file of any kind.

    Raises:
        UserError: files of several kinds, of which none is named.
    """
    by_suffix, known = suffixes(), known or {}
    kinds = {path: known.get(path) or by_suffix.get(suffix_of(path)) for path in paths if is_shown(path)}
    of = {path: kind for path, kind in kinds.items() if kind is not None}
    counts = Counter(of.values())
    if not asked and len(counts) > 1:
        listed = " and ".join(counted(count, _class(kind).nouns) for kind, count in counts.most_common())
        raise UserError(f"{name}: holds {listed}: say which with --kind {counts.most_common()[0][0]}")
    kind = asked or next(iter(counts), "")
    found = [path for path, other in of.items() if other == kind]
    return (kind, _of_one_sort(kind, found, known)) if counts[kind] else ("", [])


def _of_one_sort(kind: str, paths: list[str], known: Mapping[str, str]) -> list[str]:
    """Files that are read alike. A few strays, volumes among others or others among volumes, are left out."""
    apart: frozenset[str] = getattr(_class(kind), "volumes", frozenset())
    volumes = {path for path in paths if path in known or suffix_of(path) in apart}
    fewer, more = sorted((len(volumes), len(paths) - len(volumes)))
    if STRAYS * fewer > more:
        return paths
    return [path for path in paths if (path in volumes) == (len(volumes) == more)]
