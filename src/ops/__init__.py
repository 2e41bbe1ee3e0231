"""Pure tensor functions that more than one package needs."""
