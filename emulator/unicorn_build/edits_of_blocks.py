"""What blocks of translated code do: where they stop, what they call, how they are found."""

from emulator.unicorn_build.edit import Edit, Place

EDITS_OF_BLOCKS = (
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
)
