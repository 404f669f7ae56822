"""Timing models: what instructions, memory and events cost on the machine of a profile."""
