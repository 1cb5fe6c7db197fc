"""The one exception that is meant for the person at the keyboard."""


class UserError(Exception):
    """Something the user can put right.

    The message is one line: the value, why it is wrong, what to do. The command line prints it without a traceback and
    exits with code 2; in Python it is raised as it is.
    """
