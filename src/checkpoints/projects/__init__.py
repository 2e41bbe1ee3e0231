"""One file of renaming rules for each foreign project."""
