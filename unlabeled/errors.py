"""The one exception that is meant for the person at the keyboard, and a special case of it."""


class UserError(Exception):
    """Something the user can put right.

    The message is one line: the value, why it is wrong, what to do. The command line prints it without a traceback and
    exits with code 2; in Python it is raised as it is.
    """


class UnknownNameError(UserError):
    """A name that is not known here, such as that of a method; up to its first semicolon the message says which."""
