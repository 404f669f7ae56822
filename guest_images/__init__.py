"""Guests: our own test kernels in C and assembly, and the recipe for Linux; see README.md."""
