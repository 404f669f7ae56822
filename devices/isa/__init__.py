"""Chips at fixed ports."""
