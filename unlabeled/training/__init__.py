"""The loop, its step, and all that a step needs."""
