"""Captioned and labelled pictures on disk: writing splits of tar shards, checking them, reading them back."""
