"""What an instruction that faults has done: it reads to write, and it keeps the flags it will need again."""

from emulator.unicorn_build.edit import Edit, Place

TRANSLATE = "qemu/target/i386/translate.c"
FAULTS = "tests/emulator/engine/unicorn/test_faults.py"

EDITS_OF_OPERANDS = (
    # An instruction that reads a place and writes it faults as a write.
    Edit(
        file=TRANSLATE,
        place=Place.AFTER,
        anchor="    target_ulong prev_pc; /* save address of the previous instruction */\n",
        lines="    int sc_writes;\n    TCGOp *sc_start;\n",
        why="what the loads of this instruction are marked with; what tells the CPU's state where it begins",
        test=FAULTS,
    ),
    Edit(
        file=TRANSLATE,
        place=Place.BEFORE,
        anchor="/* convert one instruction. s->base.is_jmp is set if the translation must\n",
        lines="""\
enum { SC_READS_TO_WRITE = 1, SC_CAN_HAVE_LOCK = 2 };

/* What an instruction does with its operand in memory, if it has one. */
static int sc_operand(CPUX86State *env, DisasContext *s, int b)
{
    int modrm, op, both = SC_READS_TO_WRITE | SC_CAN_HAVE_LOCK;
    switch (b) {
    case 0x63: case 0x80: case 0x81: case 0x82: case 0x83: case 0x86: case 0x87:
    case 0xc0: case 0xc1: case 0xd0: case 0xd1: case 0xd2: case 0xd3: case 0xf6: case 0xf7: case 0xfe: case 0xff:
    case 0x1a4: case 0x1a5: case 0x1ac: case 0x1ad: case 0x1ab: case 0x1b3: case 0x1bb: case 0x1ba:
    case 0x1b0: case 0x1b1: case 0x1c0: case 0x1c1: case 0x1c7:
        break;
    default:
        if (b >= 0x38 || (b & 7) > 1) {
            return 0;
        }
    }
    modrm = cpu_ldub_code(env, s->pc);
    op = modrm >> 3 & 7;
    if (modrm >= 0xc0) {
        return 0;
    }
    switch (b) {
    case 0x63: /* ARPL */
        return CODE64(s) ? 0 : SC_READS_TO_WRITE;
    case 0xc0: case 0xc1: case 0xd0: case 0xd1: case 0xd2: case 0xd3: case 0x1a4: case 0x1a5: case 0x1ac: case 0x1ad:
        return SC_READS_TO_WRITE;
    case 0x80: case 0x81: case 0x82: case 0x83:
        return op == 7 ? 0 : both;
    case 0xf6: case 0xf7:
        return op == 2 || op == 3 ? both : 0;
    case 0xfe: case 0xff:
        return op < 2 ? both : 0;
    case 0x1ba:
        return op > 4 ? both : 0;
    case 0x1c7:
        return op == 1 ? both : 0;
    default:
        return both;
    }
}

""",
        why="a table of what reads and writes its operand",
        test=FAULTS,
    ),
    Edit(
        file=TRANSLATE,
        place=Place.AFTER,
        anchor=" reswitch:\n",
        lines="""\
    if (b != 0x0f) {
        int sc_does = sc_operand(env, s, b);
        s->sc_writes = sc_does & SC_READS_TO_WRITE ? SC_WRITES : 0;
        if ((prefixes & PREFIX_LOCK) && !(sc_does & SC_CAN_HAVE_LOCK)) {
            goto illegal_op;
        }
    }
""",
        why="what this instruction does; LOCK is for those that read and write memory (SDM 2A, LOCK)",
        test="tests/emulator/engine/unicorn/test_lock.py",
    ),
    Edit(
        file=TRANSLATE,
        place=Place.INSTEAD,
        anchor="    tcg_gen_qemu_ld_tl(tcg_ctx, t0, a0, s->mem_index, idx | MO_LE);\n",
        lines="    tcg_gen_qemu_ld_tl(tcg_ctx, t0, a0, s->mem_index, idx | MO_LE | s->sc_writes);\n",
        why="its load is marked",
        test=FAULTS,
    ),
    Edit(
        file="qemu/include/exec/memop.h",
        place=Place.AFTER,
        anchor="    MO_ALIGN_64 = 6 << MO_ASHIFT,\n",
        lines="    SC_WRITES = 8 << MO_ASHIFT,\n",
        why="the mark of a load: what is loaded will be written",
        test=FAULTS,
    ),
    Edit(
        file="qemu/accel/tcg/cputlb.c",
        place=Place.INSTEAD,
        anchor="        code_read ? MMU_INST_FETCH : MMU_DATA_LOAD;\n",
        lines="""\
        code_read ? MMU_INST_FETCH : get_memop(oi) & SC_WRITES ? MMU_DATA_STORE : MMU_DATA_LOAD;
""",
        why="a marked load that misses the TLB walks the page tables, and faults, as a store (SDM 3A 4.7)",
        test=FAULTS,
    ),
    Edit(
        file="qemu/tcg/i386/tcg-target.inc.c",
        place=Place.INSTEAD,
        anchor="                     label_ptr, offsetof(CPUTLBEntry, addr_read));\n",
        lines="""\
                     label_ptr, opc & SC_WRITES ? offsetof(CPUTLBEntry, addr_write)
                                                : offsetof(CPUTLBEntry, addr_read));
""",
        why="a page in the TLB that can only be read is none for it: else what `detailed` counts hung on the TLB",
        test="tests/guest/test_watched_instructions.py",
    ),
    Edit(
        file="qemu/accel/tcg/cputlb.c",
        place=Place.INSTEAD,
        anchor="        offsetof(CPUTLBEntry, addr_code) : offsetof(CPUTLBEntry, addr_read);\n",
        lines="""\
        offsetof(CPUTLBEntry, addr_code) : get_memop(oi) & SC_WRITES ?
        offsetof(CPUTLBEntry, addr_write) : offsetof(CPUTLBEntry, addr_read);
""",
        why="the same in the victim TLB",
        test="tests/guest/test_watched_instructions.py",
    ),
    Edit(
        file="qemu/accel/tcg/cputlb.c",
        place=Place.BEFORE,
        anchor="""\
    /* Handle CPU specific unaligned behaviour */
    if (addr & ((1 << a_bits) - 1)) {
        cpu_unaligned_access(env_cpu(env), addr, access_type,
""",
        lines="""\
    if ((get_memop(oi) & SC_WRITES) && !tlb_hit(env->uc, tlb_addr_write(entry), addr)) {
        tlb_addr = -1;
    }
""",
        why="the same behind the quick look",
        test="tests/guest/test_watched_instructions.py",
    ),
    *(
        Edit(
            file="qemu/tcg/tcg-op.c",
            place=Place.BEFORE,
            anchor=anchor.format(bits),
            lines="        memop |= SC_WRITES;\n",
            why="XCHG, and what has LOCK, do the same",
            test=FAULTS,
        )
        for bits in (32, 64)
        for anchor in (
            "        tcg_gen_qemu_ld_i{0}(tcg_ctx, t1, addr, idx, memop & ~MO_SIGN);\n",
            "    tcg_gen_qemu_ld_i{0}(tcg_ctx, t1, addr, idx, memop);\n"
            "    tcg_gen_ext_i{0}(tcg_ctx, t2, val, memop);\n",
        )
    ),
    Edit(
        file="qemu/target/i386/mem_helper.c",
        place=Place.BEFORE,
        anchor="    oldv = cpu_ldq_data_ra(env, a0, ra);\n",
        lines="""\
    probe_access(env, a0, 0, MMU_DATA_STORE, cpu_mmu_index(env, false), ra);
    probe_access(env, a0 + 7, 0, MMU_DATA_STORE, cpu_mmu_index(env, false), ra);
""",
        why="CMPXCHG8B does the same",
        test=FAULTS,
    ),
    Edit(
        file="qemu/target/i386/mem_helper.c",
        place=Place.BEFORE,
        anchor="    o0 = cpu_ldq_data_ra(env, a0 + 0, ra);\n",
        lines="    probe_access(env, a0, 0, MMU_DATA_STORE, cpu_mmu_index(env, false), ra);\n",
        why="CMPXCHG16B does the same",
        test=FAULTS,
    ),
    # Flags that an instruction computes before its store are not lost when that faults.
    Edit(
        file=TRANSLATE,
        place=Place.AFTER,
        anchor="    tcg_gen_insn_start(tcg_ctx, dc->base.pc_next, dc->cc_op);\n",
        lines="    dc->sc_start = tcg_last_op(tcg_ctx);\n",
        why="how the flags are kept where an instruction begins; the next two correct that",
        test=FAULTS,
    ),
    Edit(
        file=TRANSLATE,
        place=Place.AFTER,
        anchor="        gen_setcc1(s, b, s->T0);\n",
        lines="        tcg_set_insn_start_param(s->sc_start, 1, s->cc_op);\n",
        why="SETcc may compute all flags; if its store faulted they were taken for what they were computed from",
        test=FAULTS,
    ),
    Edit(
        file=TRANSLATE,
        place=Place.BEFORE,
        anchor="    // assert(s->cc_op == CC_OP_EFLAGS);\n",
        lines="""\
    tcg_set_insn_start_param(s->sc_start, 1, s->cc_op);
    TCGv sc_before = tcg_temp_new(tcg_ctx);
    tcg_gen_mov_tl(tcg_ctx, sc_before, tcg_ctx->cpu_cc_src);
""",
        why="RCL and RCR compute all flags before",
        test=FAULTS,
    ),
    Edit(
        file=TRANSLATE,
        place=Place.INSTEAD,
        anchor="""\
    /* store */
    gen_op_st_rm_T0_A0(s, ot, op1);
}

/* XXX: add faster immediate case */
""",
        lines="""\
    tcg_gen_mov_tl(tcg_ctx, s->tmp0, tcg_ctx->cpu_cc_src);
    tcg_gen_mov_tl(tcg_ctx, tcg_ctx->cpu_cc_src, sc_before);
    gen_op_st_rm_T0_A0(s, ot, op1);
    tcg_gen_mov_tl(tcg_ctx, tcg_ctx->cpu_cc_src, s->tmp0);
    tcg_temp_free(tcg_ctx, sc_before);
}

""",
        why="and change CF, from which they compute, only behind their store",
        test=FAULTS,
    ),
    Edit(
        file=TRANSLATE,
        place=Place.BEFORE,
        anchor="""\
                gen_op_add_reg_im(s, s->aflag, R_ECX, -1);
                gen_op_jz_ecx(s, s->aflag, l3);
""",
        lines="                gen_update_cc_op(s);\n",
        why="LOOPE and LOOPNE with a count of 1 lost flags that were not computed yet",
        test="tests/emulator/engine/unicorn/test_instructions.py",
    ),
)
