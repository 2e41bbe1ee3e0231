"""Data sets as WebDataset shards, on disk or in object storage."""
