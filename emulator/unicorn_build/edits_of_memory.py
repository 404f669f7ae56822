"""What loads, stores and page walks do."""

from emulator.unicorn_build.edit import Edit, Place

EDITS_OF_MEMORY = (
    # Every load and store tells us, while that is wanted.
    Edit(
        file="qemu/include/tcg/tcg.h",
        place=Place.AFTER,
        anchor="static inline bool tcg_uc_has_hookmem(TCGContext *s)\n{\n",
        lines="    if (s->uc->sc_tells_accesses) {\n        return true;\n    }\n",
        why="loads and stores are then translated as calls",
        test="tests/emulator/engine/unicorn/test_memory_hook.py",
    ),
    Edit(
        file="qemu/accel/tcg/cputlb.c",
        place=Place.BEFORE,
        anchor="        // this is date reading\n",
        lines="""\
        if (uc->sc_tells_accesses) {
            extern void sc_access(void *owner, uint64_t hpa, uint64_t linear, uint64_t bytes, bool is_write);
            sc_access(uc->sc_owner, paddr, addr, size, false);
        }
""",
        why="a hook on memory is told no linear address, and RIP is stored before each, which took a third of the time",
        test="tests/emulator/engine/unicorn/test_memory_hook.py",
    ),
    Edit(
        file="qemu/accel/tcg/cputlb.c",
        place=Place.BEFORE,
        anchor="        // Unicorn: callback on memory write\n",
        lines="""\
        if (uc->sc_tells_accesses) {
            extern void sc_access(void *owner, uint64_t hpa, uint64_t linear, uint64_t bytes, bool is_write);
            sc_access(uc->sc_owner, paddr, addr, size, true);
        }
""",
        why="the same of a store",
        test="tests/emulator/engine/unicorn/test_memory_hook.py",
    ),
    Edit(
        file="qemu/accel/tcg/cpu-exec.c",
        place=Place.AFTER,
        anchor="        assert_no_pages_locked();\n",
        lines="        uc->size_recur_mem = 0;\n",
        why="an access across two pages that faulted on one left this set, and then no access told anything",
        test="tests/emulator/engine/unicorn/test_memory_hook.py",
    ),
    # What the TLB keeps, and where RAM lies.
    Edit(
        file="qemu/accel/tcg/cputlb.c",
        place=Place.INSTEAD,
        anchor="        if (cmp == page) {\n",
        lines="        if ((cmp & ~(target_ulong)TLB_NOTDIRTY) == page) {\n",
        why="what the TLB keeps, which a guest can tell where it does not flush, does not depend on what is translated",
        test="tests/emulator/engine/unicorn/test_clock.py",
    ),
    Edit(
        file="include/uc_priv.h",
        place=Place.BEFORE,
        anchor="    bool skip_sync_pc_on_exit;\n",
        lines="    struct MemoryRegion *sc_regions[2];\n    void *sc_owner;\n    bool sc_tells_accesses;\n",
        why="the regions of memory that were found last; the CPU whose engine it is; whether accesses are told",
        test="benchmarks/speed/measure.py",
    ),
    Edit(
        file="qemu/unicorn_common.h",
        place=Place.BEFORE,
        anchor="    hwaddr xlat = 0;\n    hwaddr len = 1;\n",
        lines="""\
    for (int i = 0; i < 2; i++) {
        MemoryRegion *sc_region = uc->sc_regions[i];
        if (sc_region && address >= sc_region->addr && address < sc_region->end) {
            return sc_region;
        }
    }
""",
        why="every slow load and store looks for its region of memory; there are few, so it is one of the last two",
        test="benchmarks/speed/measure.py",
    ),
    Edit(
        file="qemu/unicorn_common.h",
        place=Place.AFTER,
        anchor="    if (mr == &uc->io_mem_unassigned) {\n        return NULL;\n    }\n",
        lines="""\
    if (mr->container == uc->system_memory) {
        uc->sc_regions[1] = uc->sc_regions[0];
        uc->sc_regions[0] = mr;
    }
""",
        why="the region found is one of the last two",
        test="benchmarks/speed/measure.py",
    ),
    Edit(
        file="qemu/softmmu/memory.c",
        place=Place.AFTER,
        anchor="static void memory_region_transaction_commit(MemoryRegion *mr)\n{\n",
        lines="    mr->uc->sc_regions[0] = mr->uc->sc_regions[1] = NULL;\n",
        why="regions are added or removed",
        test="tests/emulator/engine/unicorn/test_holes.py",
    ),
    Edit(
        file="uc.c",
        place=Place.BEFORE,
        anchor="UNICORN_EXPORT\nunsigned int uc_version(unsigned int *major, unsigned int *minor)\n",
        lines="""\
void sc_set_owner(uc_engine *uc, void *owner)
{
    uc->sc_owner = owner;
}

void sc_tell_accesses(uc_engine *uc, bool tells)
{
    uc->sc_tells_accesses = tells;
}

""",
        why="functions of ours are told which CPU calls",
        test="benchmarks/speed/measure.py",
    ),
    Edit(
        file="qemu/target/i386/helper.c",
        place=Place.AFTER,
        anchor="uint64_t x86_ldq_phys(CPUState *cs, hwaddr addr)\n{\n",
        lines="""\
    extern void *sc_ram(void *owner, uint64_t hpa);
    void *sc_host = sc_ram(cs->uc->sc_owner, addr);
    if (sc_host) {
        return ldq_le_p(sc_host);
    }
""",
        why="a page walk reads RAM directly",
        test="benchmarks/speed/measure.py",
    ),
)
