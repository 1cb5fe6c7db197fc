"""Where samples lie: folders, zips, Parquet, lists, arrays. A `Reader` for each."""
