"""Measuring embeddings: gap geometry, retrieval, zero-shot, probe and composition, all as pure functions."""
