"""Unicorn from its source, with this project's edits: the library that the CPU engine is linked with.

    edits.py      what we change in Unicorn's source, and why: a table
    library.py    fetches the source, applies the table, builds a static library, once, into the user's cache

`python -m emulator.unicorn_build` builds it and says where it is. That takes Python, its pip and a C compiler.
"""
