"""What methods are made of: heads, memory, clustering."""
