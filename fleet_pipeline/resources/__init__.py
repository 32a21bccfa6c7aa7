"""Dagster resources: what assets are given to work with."""
