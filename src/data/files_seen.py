"""A count of files that remembers the first few names."""

from __future__ import annotations

__all__ = ["Files"]


class Files:
    """A count of files, and of pixels in them, that keeps the first few names."""

    def __init__(self) -> None:
        self.count, self.pixels = 0, 0
        self.first: list[str] = []

    def add(self, where: str, pixels: int = 0) -> None:
        """Count one file."""
        self.count += 1
        self.pixels += pixels
        self.first = [*self.first, where][:3]

    def __str__(self) -> str:
        more = self.count - len(self.first)
        return ", ".join(self.first) + (f" and {more} more" if more else "")
