"""VMX as the Intel SDM volume 3 tabulates it."""
