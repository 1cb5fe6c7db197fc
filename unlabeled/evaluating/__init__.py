"""How good an encoder is, in words and tables."""
