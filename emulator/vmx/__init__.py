"""VMX as the Intel SDM volume 3 tabulates it; see its README.

Section numbers everywhere in this package are those of the SDM's 2016 to 2021 editions, in which chapter 24 is "Virtual
Machine Control Structures", 26 "VM Entries" and 27 "VM Exits". Later editions count these chapters higher.
"""
