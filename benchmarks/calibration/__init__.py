"""Profiles beside what was published of their machines."""
