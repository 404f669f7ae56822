"""The memory hierarchy's kernels: functions on one array of int64 words, compiled by numba or plain Python.

layout         where everything lies in the array
sets           one set of an array: a list in order of use
tlb            both levels of TLB, the paging-structure cache, flushes
coherence      what other cores and packages hold of a line
outer_caches   L2, L3 and memory
line_access    loads, stores and fetches of one line: L1 and its states
store_buffer   stores that wait without anybody waiting for them
entry_points   what the CPU engine and Python call
compiled       how they are compiled, and where machine code is kept
"""
