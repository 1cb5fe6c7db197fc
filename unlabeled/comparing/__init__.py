"""Several methods, or several values of an option, in one table."""
