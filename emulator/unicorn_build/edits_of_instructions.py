"""Instructions that Unicorn has wrong."""

from emulator.unicorn_build.edit import Edit, Place

TRANSLATE = "qemu/target/i386/translate.c"
INSTRUCTIONS = "tests/emulator/engine/unicorn/test_instructions.py"

EDITS_OF_INSTRUCTIONS = (
    Edit(
        file=TRANSLATE,
        place=Place.AFTER,
        anchor="""\
        case 1: /* CMPXCHG8, CMPXCHG16 */
            if (mod == 3) {
                goto illegal_op;
            }
""",
        lines="            gen_update_cc_op(s);\n",
        why="CMPXCHG8B changes ZF alone; the other flags were those of another operation than the last (SDM 2A)",
        test=INSTRUCTIONS,
    ),
    Edit(
        file=TRANSLATE,
        place=Place.AFTER,
        anchor="    case 0xc2: /* ret im */\n        val = x86_ldsw_code(env, s);\n",
        lines="        val = (uint16_t)val;\n",
        why="RET takes an unsigned number of bytes from the stack (SDM 2B)",
        test=INSTRUCTIONS,
    ),
    Edit(
        file=TRANSLATE,
        place=Place.AFTER,
        anchor="    case 0xca: /* lret im */\n        val = x86_ldsw_code(env, s);\n",
        lines="        val = (uint16_t)val;\n",
        why="the same of a far return",
        test=INSTRUCTIONS,
    ),
    Edit(
        file="qemu/target/i386/seg_helper.c",
        place=Place.AFTER,
        anchor="        /* check gate type */\n",
        lines="        cpu_svm_check_intercept_param(env, SVM_EXIT_TASK_SWITCH, new_cs, GETPC());\n",
        why="a far CALL to what is no code segment is done by emulator/engine/arch/gates.c and tasks.c: with a TSS that"
        " is busy, as any in use is, Unicorn ends the process; it changes the state before its checks end; its task"
        " switches lose CR0.TS and CR3, and have to exit in non-root operation",
        test="tests/emulator/engine/arch/test_call_gates.py",
    ),
    Edit(
        file="qemu/target/i386/seg_helper.c",
        place=Place.AFTER,
        anchor="        /* jump to call or task gate */\n",
        lines="        cpu_svm_check_intercept_param(env, SVM_EXIT_TASK_SWITCH, new_cs | 2 << 16, GETPC());\n",
        why="the same of a far JMP",
        test="tests/emulator/engine/arch/test_call_gates.py",
    ),
    Edit(
        file="qemu/target/i386/seg_helper.c",
        place=Place.BEFORE,
        anchor="        tss_selector = cpu_lduw_kernel_ra(env, env->tr.base + 0, GETPC());\n",
        lines="        cpu_svm_check_intercept_param(env, SVM_EXIT_TASK_SWITCH, 1 << 16, GETPC());\n",
        why="the same of an IRET with NT set",
        test="tests/emulator/engine/arch/test_tasks.py",
    ),
    Edit(
        file="qemu/target/i386/ops_sse.h",
        place=Place.BEFORE,
        anchor="    if (ctrl & 1) {\n        if (val > 8) {\n",
        lines="""\
    int64_t sc_length = ctrl >> 8 ? (int64_t)env->regs[reg] : (int32_t)env->regs[reg];
    if (sc_length > 16 || sc_length < -16) {
        val = 16;
    }
""",
        why="a length of PCMPESTRI is 16 at most; the most negative has no absolute value (SDM 2B 4.1.4)",
        test="tests/emulator/engine/unicorn/test_string_lengths.py",
    ),
    Edit(
        file=TRANSLATE,
        place=Place.BEFORE,
        anchor="static void gen_add_A0_im(DisasContext *s, int val)\n",
        lines="""\
/* CMPXCHG loads its accumulator where it found another value than there. */
static void sc_load_accumulator(DisasContext *s, MemOp ot, TCGv expected, TCGv found)
{
    TCGContext *tcg_ctx = s->uc->tcg_ctx;
    TCGv eax = tcg_ctx->cpu_regs[R_EAX];
    if (ot != MO_32) {
        gen_op_mov_reg_v(s, ot, R_EAX, found);
        return;
    }
    tcg_gen_ext32u_tl(tcg_ctx, s->tmp0, expected);
    tcg_gen_ext32u_tl(tcg_ctx, found, found);
    tcg_gen_movcond_tl(tcg_ctx, TCG_COND_EQ, eax, s->tmp0, found, eax, found);
}

""",
        why="CMPXCHG of 32 bits that finds what it expects leaves all of RAX alone (SDM 2A)",
        test=INSTRUCTIONS,
    ),
    Edit(
        file=TRANSLATE,
        place=Place.INSTEAD,
        anchor="""\
                                          s->mem_index, ot | MO_LE);
                gen_op_mov_reg_v(s, ot, R_EAX, oldv);
""",
        lines="""\
                                          s->mem_index, ot | MO_LE);
                sc_load_accumulator(s, ot, cmpv, oldv);
""",
        why="with LOCK",
        test=INSTRUCTIONS,
    ),
    Edit(
        file=TRANSLATE,
        place=Place.INSTEAD,
        anchor="""\
                    gen_op_st_v(s, ot, newv, s->A0);
                    gen_op_mov_reg_v(s, ot, R_EAX, oldv);
""",
        lines="""\
                    gen_op_st_v(s, ot, newv, s->A0);
                    sc_load_accumulator(s, ot, cmpv, oldv);
""",
        why="in memory",
        test=INSTRUCTIONS,
    ),
    Edit(
        file=TRANSLATE,
        place=Place.INSTEAD,
        anchor="""\
                    gen_op_mov_reg_v(s, ot, R_EAX, oldv);
                    gen_op_mov_reg_v(s, ot, rm, newv);
""",
        lines="""\
                    sc_load_accumulator(s, ot, cmpv, oldv);
                    if (ot == MO_32) {
                        tcg_gen_ext32u_tl(tcg_ctx, newv, newv);
                        tcg_gen_movcond_tl(tcg_ctx, TCG_COND_EQ, tcg_ctx->cpu_regs[rm], oldv, cmpv, newv,
                                           tcg_ctx->cpu_regs[rm]);
                    } else {
                        gen_op_mov_reg_v(s, ot, rm, newv);
                    }
""",
        why="in a register, whose upper half it leaves alone where it finds another value",
        test=INSTRUCTIONS,
    ),
    Edit(
        file=TRANSLATE,
        place=Place.BEFORE,
        anchor="""\
        gen_op_mov_reg_v(s, ot, reg, s->T0);
        break;
        /************************/
        /* bcd */
""",
        lines="""\
        if (ot == MO_32 && s->cc_op == CC_OP_LOGICL) {
            TCGv sc_zero = tcg_const_tl(tcg_ctx, 0);
            tcg_gen_ext32u_tl(tcg_ctx, s->T0, s->T0);
            tcg_gen_movcond_tl(tcg_ctx, TCG_COND_EQ, tcg_ctx->cpu_regs[reg], tcg_ctx->cpu_cc_dst, sc_zero,
                               tcg_ctx->cpu_regs[reg], s->T0);
            tcg_temp_free(tcg_ctx, sc_zero);
            break;
        }
""",
        why="BSF and BSR of 0 leave all of their destination alone",
        test=INSTRUCTIONS,
    ),
    Edit(
        file=TRANSLATE,
        place=Place.AFTER,
        anchor="                tcg_gen_mov_tl(tcg_ctx, s->T0, t0);\n                tcg_temp_free(tcg_ctx, t0);\n",
        lines="                tcg_gen_neg_tl(tcg_ctx, s->T0, s->T0);\n",
        why="LOCK NEG computed its flags from the value before",
        test=INSTRUCTIONS,
    ),
    *(
        Edit(
            file="qemu/target/i386/ops_sse.h",
            place=Place.AFTER,
            anchor=f"void glue(helper_{name}, SUFFIX)(CPUX86State *env, Reg *d, Reg *s)\n{{\n",
            lines="    Reg sc_source = *s;\n    s = &sc_source;\n",
            why="of a register with itself it overwrote what it still needed",
            test=INSTRUCTIONS,
        )
        for name in ("phaddw", "phaddd", "phaddsw", "phsubw", "phsubd", "phsubsw")
    ),
    # Sizes and places of operands.
    Edit(
        file=TRANSLATE,
        place=Place.INSTEAD,
        anchor="""\
        if (s->prefix & PREFIX_DATA) {
            ot = MO_16;
        } else {
            ot = mo_64_32(dflag);
        }
""",
        lines="        ot = dflag;\n",
        why="POPCNT has 16 bits in 16-bit code, too",
        test=INSTRUCTIONS,
    ),
    Edit(
        file=TRANSLATE,
        place=Place.INSTEAD,
        anchor="""\
                if ((b & 0xff) == 0xf0) {
                    ot = MO_8;
                } else if (s->dflag != MO_64) {
                    ot = (s->prefix & PREFIX_DATA ? MO_16 : MO_32);
                } else {
                    ot = MO_64;
                }
""",
        lines="                ot = (b & 0xff) == 0xf0 ? MO_8 : s->dflag;\n",
        why="so has CRC32",
        test=INSTRUCTIONS,
    ),
    Edit(
        file=TRANSLATE,
        place=Place.AFTER,
        anchor="    do_shiftd:\n        ot = dflag;\n",
        lines="        s->rip_offset = shift;\n",
        why="RIP-relative addresses count from behind the immediate of SHLD and SHRD",
        test=INSTRUCTIONS,
    ),
    Edit(
        file=TRANSLATE,
        place=Place.AFTER,
        anchor="    case 0x9e: /* sahf */\n",
        lines="        s->x86_64_hregs = false;\n",
        why="with a REX prefix it took SPL for AH",
        test=INSTRUCTIONS,
    ),
    Edit(
        file=TRANSLATE,
        place=Place.AFTER,
        anchor="    case 0x9f: /* lahf */\n",
        lines="        s->x86_64_hregs = false;\n",
        why="the same",
        test=INSTRUCTIONS,
    ),
    Edit(
        file=TRANSLATE,
        place=Place.INSTEAD,
        anchor="""\
        ot = dflag != MO_16 ? MO_32 : MO_16;
        modrm = x86_ldub_code(env, s);
        reg = ((modrm >> 3) & 7) | rex_r;
        mod = (modrm >> 6) & 3;
        if (mod == 3)
            goto illegal_op;
        gen_lea_modrm(env, s, modrm);
        gen_op_ld_v(s, ot, s->T1, s->A0);
        gen_add_A0_im(s, 1 << ot);
""",
        lines="""\
        ot = dflag;
        modrm = x86_ldub_code(env, s);
        reg = ((modrm >> 3) & 7) | rex_r;
        if (modrm >= 0xc0) {
            goto illegal_op;
        }
        gen_lea_modrm(env, s, modrm);
        gen_op_ld_v(s, ot, s->T1, s->A0);
        gen_add_A0_im(s, 1 << ot);
""",
        why="LSS, LFS and LGS take offsets of 64 bits (SDM 2A)",
        test=INSTRUCTIONS,
    ),
    Edit(
        file=TRANSLATE,
        place=Place.AFTER,
        anchor="            gen_helper_read_eflags(tcg_ctx, s->T0, tcg_ctx->cpu_env);\n",
        lines="            tcg_gen_andi_tl(tcg_ctx, s->T0, s->T0, ~(target_ulong)(RF_MASK | VM_MASK));\n",
        why="PUSHF pushes RF and VM clear (SDM 2B)",
        test=INSTRUCTIONS,
    ),
)
