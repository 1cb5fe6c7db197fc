"""What a sample is, one file a kind."""
