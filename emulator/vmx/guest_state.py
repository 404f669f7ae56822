"""The guest's states that are no registers: what it waits for, and what it is blocked from.

Source: Intel SDM volume 3, 24.4.2, "Guest Non-Register State".
"""

ACTIVITY_ACTIVE, ACTIVITY_HLT, ACTIVITY_SHUTDOWN, ACTIVITY_WAIT_FOR_SIPI = range(4)

# the interruptibility state, table 24-3
BLOCKING_BY_STI = 1 << 0
BLOCKING_BY_MOV_SS = 1 << 1
BLOCKING_BY_SMI = 1 << 2
BLOCKING_BY_NMI = 1 << 3
