"""Checkpoint files: safe writing and loading, and maps from other projects' names."""
