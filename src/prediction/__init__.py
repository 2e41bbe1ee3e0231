"""Predictions as files: of images, large maps and videos; pseudo-labels; label files for a test server."""
