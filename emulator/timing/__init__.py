"""Timing models: what instructions, caches, TLBs and the coherence between cores cost. See README.md."""
