"""Where firmware's tables lie in guest-physical memory: where kernels search (ACPI 5.2.5.1, MP specification 4)."""

FIRMWARE_GPA, FIRMWARE_BYTES = 0xF0000, 0x10000
MP_POINTER_GPA = FIRMWARE_GPA
RSDP_GPA = FIRMWARE_GPA + 0x10
TABLES_GPA = FIRMWARE_GPA + 0x40
