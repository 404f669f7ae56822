"""What this project changes in the source of Unicorn 2.1.4.

An edit is data: a place, which is a text that stands in the file exactly once, and our own lines there. Functions named
`sc_...` that the lines call are in emulator/engine/unicorn/, and are linked with the library.
"""

from dataclasses import dataclass
from enum import Enum, auto


class Place(Enum):
    """Where the lines of an edit go."""

    BEFORE = auto()
    AFTER = auto()
    INSTEAD = auto()


@dataclass(frozen=True)
class Edit:
    """One change of Unicorn's source.

    `file` lies below the source's folder. `anchor` is text of Unicorn that stands there once. `test` is the file of the
    test or benchmark that shows what the edit is for.
    """

    file: str
    place: Place
    anchor: str
    lines: str
    why: str
    test: str


EDITS = (
    Edit(
        file="qemu/include/qemu/timer.h",
        place=Place.INSTEAD,
        anchor="    gettimeofday(&tv, NULL);\n",
        lines="    extern void sc_engine_time(struct timeval *ret);\n    sc_engine_time(&tv);\n",
        why="Unicorn resizes its TLB by the time, and a guest can tell: the time is that of the emulated CPU",
        test="tests/emulator/engine/unicorn/test_clock.py",
    ),
    # Where the engine stops: at the begin of a block.
    Edit(
        file="qemu/tcg/tcg-op.c",
        place=Place.BEFORE,
        anchor="    if (tcg_ctx->uc->no_exit_request) {\n",
        lines="    tcg_ctx->nb_ops += 3;\n    return;\n",
        why="Unicorn calls a function behind every load and store, to stop where there is no memory: here there is."
        " A block ends when it has many operations; those calls are counted still, so that it ends where it did",
        test="benchmarks/speed/measure.py",
    ),
    Edit(
        file="qemu/include/tcg/tcg.h",
        place=Place.AFTER,
        anchor="    TCGv_i32 delay_slot_flag;\n",
        lines="    TCGLabel *sc_leave;\n",
        why="where a block goes that does not begin: see the next two",
        test="benchmarks/speed/measure.py",
    ),
    Edit(
        file="qemu/include/exec/gen-icount.h",
        place=Place.BEFORE,
        anchor="    TCGv_ptr puc = tcg_const_ptr(tcg_ctx, tcg_ctx->uc);\n",
        lines="""\
    TCGv_i32 sc_asked = tcg_temp_new_i32(tcg_ctx);
    tcg_ctx->sc_leave = gen_new_label(tcg_ctx);
    tcg_gen_ld_i32(tcg_ctx, sc_asked, tcg_ctx->cpu_env,
                   offsetof(ArchCPU, neg.icount_decr.u32) - offsetof(ArchCPU, env));
    tcg_gen_brcondi_i32(tcg_ctx, TCG_COND_LT, sc_asked, 0, tcg_ctx->sc_leave);
    tcg_temp_free_i32(tcg_ctx, sc_asked);
    return;
""",
        why="whether to stop is asked before every block: by two operations, not by a function",
        test="benchmarks/speed/measure.py",
    ),
    Edit(
        file="qemu/include/exec/gen-icount.h",
        place=Place.BEFORE,
        anchor="    tcg_gen_exit_tb(tcg_ctx, tb, TB_EXIT_REQUESTED);\n",
        lines="    gen_set_label(tcg_ctx, tcg_ctx->sc_leave);\n",
        why="where a block goes that does not begin",
        test="benchmarks/speed/measure.py",
    ),
    Edit(
        file="qemu/accel/tcg/cpu-exec.c",
        place=Place.INSTEAD,
        anchor="        if (!HOOK_EXISTS(env->uc, UC_HOOK_CODE)) {\n",
        lines="        {\n",
        why="a block that did not begin has not stored RIP, also where other blocks have hooks on instructions",
        test="tests/emulator/engine/unicorn/test_spans.py",
    ),
    # A block calls us when it begins, with what was found of it when it was translated.
    Edit(
        file="qemu/accel/tcg/tcg-runtime.h",
        place=Place.BEFORE,
        anchor="DEF_HELPER_2(check_exit_request, void, ptr, i32)",
        lines="DEF_HELPER_1(sc_block, void, ptr)\n",
        why="translated code can call helper_sc_block",
        test="tests/emulator/engine/time/test_counting.py",
    ),
    Edit(
        file="qemu/accel/tcg/translator.c",
        place=Place.BEFORE,
        anchor="    if (HOOK_EXISTS_BOUNDED(uc, UC_HOOK_BLOCK, tb->pc)) {\n",
        lines="""\
    if (uc->sc_owner) {
        extern void *sc_next_block(void *owner);
        TCGv_ptr sc_block = tcg_const_ptr(tcg_ctx, sc_next_block(uc->sc_owner));
        gen_helper_sc_block(tcg_ctx, sc_block);
        tcg_temp_free_ptr(tcg_ctx, sc_block);
    }
""",
        why="a hook on blocks gets an address, and had to look up what is known of the block",
        test="tests/emulator/engine/time/test_counting.py",
    ),
    Edit(
        file="qemu/accel/tcg/translate-all.c",
        place=Place.INSTEAD,
        anchor="    if (!uc_mem_hook_installed(cpu->uc, tb->pc)) {\n",
        lines="""\
    extern void sc_block_translated(void *owner, uint64_t pc, uint32_t bytes, uint32_t instructions, uint32_t hflags,
                                    const uint8_t *first, const uint8_t *second);
    sc_block_translated(cpu->uc->sc_owner, pc, tb->size, tb->icount, flags,
                        phys_pc == -1 ? NULL : qemu_map_ram_ptr(cpu->uc, NULL, phys_pc),
                        phys_page2 == -1 ? NULL : qemu_map_ram_ptr(cpu->uc, NULL, phys_page2));
    if (0) {
""",
        why="the block is translated. (Unicorn made the linear page of each slow; now its physical page is: see below)",
        test="tests/emulator/engine/time/test_counting.py",
    ),
    # Who changes code takes its translations away: see emulator/engine/unicorn/code.c.
    Edit(
        file="qemu/accel/tcg/translate-all.c",
        place=Place.AFTER,
        anchor="""\
    return page_find_alloc(uc, index, 0);
}
""",
        lines="""\

bool sc_page_has_code(struct uc_struct *uc, ram_addr_t ram_addr)
{
    PageDesc *p = page_find(uc, ram_addr >> TARGET_PAGE_BITS);
    return p && p->first_tb;
}
""",
        why="has this CPU translated code of a page?",
        test="tests/emulator/engine/time/test_code_changes.py",
    ),
    Edit(
        file="qemu/accel/tcg/translate-all.c",
        place=Place.BEFORE,
        anchor="/* len must be <= 8 and start must be a multiple of len.\n",
        lines="""\
void sc_forget_code(struct uc_struct *uc, uint8_t *host, uint64_t bytes)
{
    ram_addr_t start = qemu_ram_addr_from_host(uc, host);
    if (start != RAM_ADDR_INVALID) {
        tb_invalidate_phys_range(uc, start, start + bytes);
    }
}

""",
        why="the translations of this CPU are taken away when somebody else changes their code",
        test="tests/emulator/engine/time/test_code_changes.py",
    ),
    Edit(
        file="qemu/accel/tcg/cputlb.c",
        place=Place.BEFORE,
        anchor="""\
/* update the TLBs so that writes to code in the virtual page 'addr'
   can be detected */
""",
        lines="""\
extern bool sc_page_has_code(struct uc_struct *uc, ram_addr_t ram_addr);
extern bool sc_has_code(void *owner, const uint8_t *host);
extern void sc_code_begins(void *owner, const uint8_t *host);
extern void sc_code_ends(void *owner, const uint8_t *host);
extern void sc_code_stored(void *owner, const uint8_t *host, uint64_t bytes);

""",
        why="they are declared",
        test="tests/emulator/engine/time/test_code_changes.py",
    ),
    Edit(
        file="qemu/accel/tcg/cputlb.c",
        place=Place.INSTEAD,
        anchor="""\
    cpu_physical_memory_test_and_clear_dirty(ram_addr, TARGET_PAGE_SIZE,
                                             DIRTY_MEMORY_CODE);
""",
        lines="""\
    uint8_t *sc_host = qemu_map_ram_ptr(uc, NULL, ram_addr);
    sc_code_begins(uc->sc_owner, sc_host);
    tlb_reset_dirty(uc->cpu, (uintptr_t)sc_host, TARGET_PAGE_SIZE);
""",
        why="the first code of a page is translated: stores that reach it, through whatever mapping, become slow",
        test="tests/emulator/engine/time/test_code_changes.py",
    ),
    Edit(
        file="qemu/accel/tcg/cputlb.c",
        place=Place.INSTEAD,
        anchor="    cpu_physical_memory_set_dirty_flag(ram_addr, DIRTY_MEMORY_CODE);\n",
        lines="    sc_code_ends(uc->sc_owner, qemu_map_ram_ptr(uc, NULL, ram_addr));\n",
        why="the last code of a page is gone",
        test="benchmarks/speed/measure.py",
    ),
    Edit(
        file="qemu/accel/tcg/cputlb.c",
        place=Place.BEFORE,
        anchor="    if (mr && (mr->perms & UC_PROT_EXEC) != 0) {\n",
        lines="""\
    const uint8_t *sc_host = (const uint8_t *)((uintptr_t)mem_vaddr + tlbe->addend);
    sc_code_stored(cpu->uc->sc_owner, sc_host, size);
    if (sc_page_has_code(cpu->uc, ram_addr)) {
        struct page_collection *sc_pages = page_collection_lock(cpu->uc, ram_addr, ram_addr + size);
        tb_invalidate_phys_page_fast(cpu->uc, sc_pages, ram_addr, size, retaddr);
        page_collection_unlock(sc_pages);
    }
    if (!sc_has_code(cpu->uc->sc_owner, sc_host)) {
        tlb_set_dirty(cpu, mem_vaddr);
    }
    return;
""",
        why="a store is slow only where its physical page has code, not wherever a page is executable",
        test="tests/emulator/engine/time/test_code_changes.py",
    ),
    Edit(
        file="qemu/accel/tcg/cputlb.c",
        place=Place.INSTEAD,
        anchor="            } else if (cpu_physical_memory_is_clean(iotlb)) {\n",
        lines="            } else if (sc_has_code(cpu->uc->sc_owner, (const uint8_t *)addend)) {\n",
        why="an entry of the TLB is made: its stores are slow where its page has code",
        test="tests/emulator/engine/time/test_code_changes.py",
    ),
    Edit(
        file="qemu/accel/tcg/cputlb.c",
        place=Place.BEFORE,
        anchor="""\
/* Called with tlb_c.lock held */
static inline void tlb_set_dirty1_locked(CPUTLBEntry *tlb_entry,
""",
        lines="""\
static void sc_slow_entry(struct uc_struct *uc, CPUTLBEntry *entry)
{
    target_ulong addr = entry->addr_write;
    if (!(addr & (TLB_INVALID_MASK | TLB_MMIO | TLB_DISCARD_WRITE | TLB_NOTDIRTY)) &&
        sc_has_code(uc->sc_owner, (const uint8_t *)(uintptr_t)((addr & TARGET_PAGE_MASK) + entry->addend))) {
        entry->addr_write |= TLB_NOTDIRTY;
    }
}

void sc_slow_code_stores(struct uc_struct *uc)
{
    CPUTLB *tlb = env_tlb((CPUArchState *)uc->cpu->env_ptr);
    for (int mode = 0; mode < NB_MMU_MODES; mode++) {
        for (unsigned i = 0; i < tlb_n_entries(&tlb->f[mode]); i++) {
            sc_slow_entry(uc, &tlb->f[mode].table[i]);
        }
        for (unsigned i = 0; i < CPU_VTLB_SIZE; i++) {
            sc_slow_entry(uc, &tlb->d[mode].vtable[i]);
        }
    }
}

""",
        why="another CPU has got the first code of a page: the stores of this one become slow there",
        test="tests/emulator/engine/time/test_code_changes.py",
    ),
    Edit(
        file="qemu/target/i386/helper.c",
        place=Place.AFTER,
        anchor="""\
void x86_stl_phys_notdirty(CPUState *cs, hwaddr addr, uint32_t val)
{
""",
        lines="""\
    extern void sc_entry_marked(void *owner, uint64_t hpa);
    sc_entry_marked(cs->uc->sc_owner, addr);
""",
        why="a page walk sets accessed and dirty flags, perhaps in what is code, too",
        test="tests/emulator/engine/time/test_code_changes.py",
    ),
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
    # Translations are found by linear address; a flush of the TLB makes them ask, and forgets none.
    Edit(
        file="qemu/include/hw/core/cpu.h",
        place=Place.AFTER,
        anchor="    struct TranslationBlock *tb_jmp_cache[TB_JMP_CACHE_SIZE];\n",
        lines="    uint32_t sc_generation, sc_generations[TB_JMP_CACHE_SIZE];\n",
        why="how often the TLB has been flushed, now and when a translation was found",
        test="tests/emulator/engine/time/test_code_changes.py",
    ),
    Edit(
        file="qemu/accel/tcg/cputlb.c",
        place=Place.INSTEAD,
        anchor="    cpu_tb_jmp_cache_clear(cpu);\n",
        lines="    if (!++cpu->sc_generation) {\n        cpu_tb_jmp_cache_clear(cpu);\n    }\n",
        why="a flush of the TLB, at each change of CR3, cleared 32 KiB, and every translation was looked for anew",
        test="benchmarks/speed/measure.py",
    ),
    Edit(
        file="qemu/include/exec/tb-lookup.h",
        place=Place.INSTEAD,
        anchor="        return tb;\n",
        lines="""\
        if (likely(cpu->sc_generations[hash] == cpu->sc_generation)) {
            return tb;
        }
        if (tb->page_addr[1] == -1 && (get_page_addr_code(env, *pc) & TARGET_PAGE_MASK) == tb->page_addr[0]) {
            cpu->sc_generations[hash] = cpu->sc_generation;
            return tb;
        }
""",
        why="a translation from before the flush is right if its linear page still lies where it lay",
        test="tests/emulator/engine/time/test_code_changes.py",
    ),
    Edit(
        file="qemu/include/exec/tb-lookup.h",
        place=Place.AFTER,
        anchor="    cpu->tb_jmp_cache[hash] = tb;\n",
        lines="    cpu->sc_generations[hash] = cpu->sc_generation;\n",
        why="it was found now",
        test="tests/emulator/engine/time/test_code_changes.py",
    ),
    Edit(
        file="qemu/accel/tcg/cpu-exec.c",
        place=Place.AFTER,
        anchor="        cpu->tb_jmp_cache[tb_jmp_cache_hash_func(cpu->uc, pc)] = tb;\n",
        lines="        cpu->sc_generations[tb_jmp_cache_hash_func(cpu->uc, pc)] = cpu->sc_generation;\n",
        why="it was made now",
        test="tests/emulator/engine/time/test_code_changes.py",
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
