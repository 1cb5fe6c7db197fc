"""The papers' policies of views, found by name."""
