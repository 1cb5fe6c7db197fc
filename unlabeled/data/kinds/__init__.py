"""Kinds of samples other than images: how each is read from a file."""
