"""One file per method. A file is found by its `@register(...)`; nothing else names it."""
