"""Optimisers, and the schedules of their rates."""
