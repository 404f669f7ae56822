/* What a core's time is computed from; Python (emulator/timing/core_timing.py) fills it, build.py gives this to cffi. */
typedef struct {               /* an instruction class */
    uint32_t occupancy_cycles; /* the front end does nothing else so long; 0 for what is pipelined */
    uint16_t latency_cycles;   /* from operands to result */
    uint16_t uops;
} sc_class_cost;
typedef int64_t (*sc_access_kernel)(int64_t *state, int64_t pcpu, int64_t hpa, int64_t size, int64_t now_cycles);
typedef int64_t (*sc_walk_kernel)(int64_t *state, int64_t pcpu, int64_t kind, int64_t hpa, int64_t linear_page,
                                  int64_t page_kind, int64_t *references, int64_t reference_count, int64_t now_cycles);
typedef int64_t (*sc_flush_kernel)(int64_t *state, int64_t pcpu, int64_t keep_global);
typedef int64_t (*sc_page_kernel)(int64_t *state, int64_t pcpu, int64_t linear_page);
typedef struct {
    const uint8_t *class_of;    /* by capstone's instruction number; each below CLASS_COUNT */
    const sc_class_cost *costs; /* CLASS_COUNT of them */
    uint32_t instruction_count; /* how many numbers capstone has */
    uint32_t issue_width;       /* 0: every instruction is one cycle, and nothing stalls */
    uint32_t load_latency_cycles, mispredict_cycles;
    uint32_t predictor_entries, target_entries; /* powers of two */
    uint32_t rep_start_cycles, rep_line_cycles, rep_scan_cycles;
    uint32_t page_fault_entry_cycles, exception_entry_cycles, interrupt_entry_cycles, task_switch_cycles;
    uint32_t access_allowance_64ths; /* `fast`: what a load or store stalls on average */
    uint8_t is_detailed, has_vpid;
    int64_t pcpu; /* which core of the hierarchy */
    int64_t *state;
    sc_access_kernel data, fetch;
    sc_flush_kernel drain; /* of the store buffer; now_cycles instead of keep_global */
    sc_walk_kernel walk;
    sc_flush_kernel flush;
    sc_page_kernel flush_page;
} sc_timing;
