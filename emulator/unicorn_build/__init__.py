"""Unicorn from its source, with this project's edits: the library that the CPU engine is linked with.

    edit.py            what an edit is
    edits.py           what we change in Unicorn's source, and why: tables, of blocks, code, memory, instructions
    library.py         fetches the source, applies them, builds a static library, once, into the user's cache

`python -m emulator.unicorn_build` builds it and says where it is. That takes Python, its pip and a C compiler.
"""
