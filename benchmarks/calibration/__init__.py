"""Profiles beside what was published, and the allowances of fast timing."""
