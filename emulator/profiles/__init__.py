"""Timing profiles, one TOML file per machine."""
