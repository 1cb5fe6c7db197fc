"""The one exception that is meant for the person at the keyboard, and a special case of it."""

LONGEST = 1000
"""Characters of a message: what is longer loses its middle, as the reason stands first and the remedy last."""


class UserError(Exception):
    """Something the user can put right.

    The message is one line: the value, why it is wrong, what to do. The command line prints it without a traceback and
    exits with code 2; in Python it is raised as it is.
    """

    def __init__(self, message: str) -> None:
        super().__init__(bounded(message))


class UnknownNameError(UserError):
    """A name that is not known here, such as that of a method; up to its first semicolon the message says which."""


FULL = ("out of memory", "allocate memory", "not enough memory", "alloc_failed", "bad_alloc", "could not create a memory")
"""Words of errors that mean a full memory: CUDA's, PyTorch's, cuBLAS's, C++'s and oneDNN's, in lower case."""


def is_full_memory(error: BaseException) -> bool:
    """Tells whether an error of a library means that the memory is full."""
    said = str(error).lower()
    return isinstance(error, MemoryError) or (isinstance(error, RuntimeError) and any(word in said for word in FULL))


def bounded(message: str) -> str:
    """Returns a message as one line of at most `LONGEST` characters.

    >>> len(bounded("a value of\\n" + "x" * 5000 + ": give another"))
    1000
    """
    line = " ".join(message.splitlines())
    if len(line) <= LONGEST:
        return line
    end = LONGEST // 3
    return f"{line[: LONGEST - end - 5]} ... {line[-end:]}"
