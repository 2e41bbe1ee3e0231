"""What every option may be: one description, from which it is checked, refused in words, and documented."""
