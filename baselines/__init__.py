"""Recipes: each is a readable file, run as ``python -m baselines.NAME``."""
