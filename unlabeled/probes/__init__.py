"""Judges of frozen features: protocols with fit / predict / score, and measures of collapse that need no label."""
