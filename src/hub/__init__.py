"""Weights from elsewhere: ``hf://`` and ``https://`` addresses, the cache and the mirror they are kept in, pushing."""
