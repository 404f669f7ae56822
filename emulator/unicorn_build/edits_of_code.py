"""Who changes code takes its translations away: see emulator/engine/unicorn/code.c."""

from emulator.unicorn_build.edit import Edit, Place

EDITS_OF_CODE = (
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
)
