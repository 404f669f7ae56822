"""x87, MMX and SSE: what their instructions do to each other's state, in which order, and of how many bytes."""

from emulator.unicorn_build.edit import Edit, Place

TRANSLATE = "qemu/target/i386/translate.c"
VECTORS = "tests/emulator/engine/unicorn/test_vectors.py"

EDITS_OF_VECTORS = (
    # MMX state is entered when the operand is there; what is written has ones above (SDM 3A 12.2).
    Edit(
        file=TRANSLATE,
        place=Place.BEFORE,
        anchor="static void gen_sse(CPUX86State *env, DisasContext *s, int b,\n",
        lines="""\
/* The end of an instruction that reads or writes MMX registers. `third`: its opcode in the maps 38 and 3A. */
static void sc_end_mmx(DisasContext *s, int b, int form, int third, int modrm)
{
    TCGContext *tcg_ctx = s->uc->tcg_ctx;
    bool has_memory = modrm < 0xc0;
    int reg = modrm >> 3 & 7, rm = modrm & 7, written = reg;
    switch (b) {
    case 0x2a:
        if (form > 1 || has_memory) {
            return;
        }
        written = -1;
        break;
    case 0x2c: case 0x2d:
        if (form > 1) {
            return;
        }
        break;
    case 0xd6:
        if (form < 2) {
            return;
        }
        written = form == 2 ? -1 : reg;
        break;
    case 0x38:
        if (form || third >= 0xf0) {
            return;
        }
        break;
    default:
        if (form || (b != 0x3a && ((b >= 0x10 && b <= 0x5f) || b == 0xc2 || b == 0xc6))) {
            return;
        }
    }
    if (b == 0x7e || b == 0xc5 || b == 0xd7 || b == 0xe7 || b == 0xf7) {
        written = -1;
    } else if (b == 0x7f) {
        written = has_memory ? -1 : rm;
    } else if (b >= 0x71 && b <= 0x73) {
        written = rm;
    }
    gen_helper_enter_mmx(tcg_ctx, tcg_ctx->cpu_env);
    if (written >= 0) {
        tcg_gen_movi_tl(tcg_ctx, s->T0, 0xffff);
        tcg_gen_st16_tl(tcg_ctx, s->T0, tcg_ctx->cpu_env, offsetof(CPUX86State, fpregs[written].d.high));
    }
}

/* Forgets what was translated behind `last`. */
static void sc_forget(DisasContext *s, TCGOp *last, CCOp cc_op, bool cc_op_dirty)
{
    TCGContext *tcg_ctx = s->uc->tcg_ctx;
    while (tcg_last_op(tcg_ctx) != last) {
        tcg_op_remove(tcg_ctx, tcg_last_op(tcg_ctx));
    }
    s->cc_op = cc_op;
    s->cc_op_dirty = cc_op_dirty;
}

""",
        why="what an MMX instruction does to x87 state; see the next edits",
        test=VECTORS,
    ),
    Edit(
        file=TRANSLATE,
        place=Place.INSTEAD,
        anchor="    if (!is_xmm) {\n        gen_helper_enter_mmx(tcg_ctx, tcg_ctx->cpu_env);\n    }\n",
        lines="    int sc_opcode = b;\n",
        why="not before its operand may fault",
        test=VECTORS,
    ),
    *(
        Edit(
            file=TRANSLATE,
            place=Place.INSTEAD,
            anchor=f"{case}            gen_helper_enter_mmx(tcg_ctx, tcg_ctx->cpu_env);\n",
            lines=case,
            why="the same",
            test=VECTORS,
        )
        for case in ("        case 0x12a: /* cvtpi2pd */\n", "        case 0x12d: /* cvtpd2pi */\n")
    ),
    Edit(
        file=TRANSLATE,
        place=Place.AFTER,
        anchor="""\
        if (b == 0x2e || b == 0x2f) {
            set_cc_op(s, CC_OP_EFLAGS);
        }
    }
""",
        lines="    sc_end_mmx(s, sc_opcode, b1, b & 0xff, modrm);\n",
        why="but at its end",
        test=VECTORS,
    ),
    Edit(
        file="qemu/target/i386/fpu_helper.c",
        place=Place.AFTER,
        anchor="void helper_emms(CPUX86State *env)\n{\n",
        lines="    env->fpstt = 0;\n",
        why="EMMS sets TOP to 0, as other MMX instructions do",
        test=VECTORS,
    ),
    *(
        Edit(
            file=TRANSLATE,
            place=Place.BEFORE,
            anchor=f"            {function} = sse_op_table{table}[b].op[b1];\n",
            lines="            reg = b1 ? reg : reg & 7;\n",
            why="there are 8 MMX registers whatever REX.R says; Unicorn wrote behind them",
            test=VECTORS,
        )
        for function, table in (("sse_fn_epp", 6), ("sse_fn_eppi", 7))
    ),
    # CR0.TS is looked at when it is sure that there is an instruction.
    Edit(
        file=TRANSLATE,
        place=Place.BEFORE,
        anchor="    /* simple MMX/SSE operation */\n",
        lines="""\
    bool sc_is_integer = b == 0x38 && cpu_ldub_code(env, s->pc) >= 0xf0;
    if ((s->flags & HF_TS_MASK) || (sc_is_integer && (s->flags & HF_EM_MASK))) {
        uint64_t sc_flags = s->flags;
        TCGOp *sc_last = tcg_last_op(tcg_ctx);
        CCOp sc_cc_op = s->cc_op;
        bool sc_dirty = s->cc_op_dirty;
        s->flags &= ~(uint64_t)(sc_is_integer ? HF_TS_MASK | HF_EM_MASK : HF_TS_MASK);
        gen_sse(env, s, b, pc_start, rex_r);
        s->flags = sc_flags;
        if (!sc_is_integer && s->base.is_jmp != DISAS_NORETURN) {
            sc_forget(s, sc_last, sc_cc_op, sc_dirty);
            gen_exception(s, EXCP07_PREX, pc_start - s->cs_base);
        }
        return;
    }
""",
        why="#UD comes before #NM; and CRC32 is no vector instruction",
        test=VECTORS,
    ),
    Edit(
        file=TRANSLATE,
        place=Place.INSTEAD,
        anchor="""\
            if (s->flags & (HF_EM_MASK | HF_TS_MASK)) {
                /* if CR0.EM or CR0.TS are set, generate an FPU exception */
                /* XXX: what to do if illegal op ? */
                gen_exception(s, EXCP07_PREX, pc_start - s->cs_base);
                break;
            }
""",
        lines="""\
            TCGOp *sc_last = tcg_last_op(tcg_ctx);
            CCOp sc_cc_op = s->cc_op;
            bool sc_dirty = s->cc_op_dirty;
""",
        why="the same of x87 instructions",
        test=VECTORS,
    ),
    Edit(
        file=TRANSLATE,
        place=Place.BEFORE,
        anchor="            if (update_fip) {\n",
        lines="""\
            if (s->flags & (HF_EM_MASK | HF_TS_MASK)) {
                sc_forget(s, sc_last, sc_cc_op, sc_dirty);
                gen_exception(s, EXCP07_PREX, pc_start - s->cs_base);
                break;
            }
""",
        why="here it is one",
        test=VECTORS,
    ),
    # Operands of 16 bytes are aligned.
    Edit(
        file=TRANSLATE,
        place=Place.AFTER,
        anchor="    target_ulong prev_pc; /* save address of the previous instruction */\n",
        lines="    int sc_alignment;\n",
        why="what loads and stores of 16 bytes are marked with",
        test=VECTORS,
    ),
    Edit(
        file=TRANSLATE,
        place=Place.BEFORE,
        anchor="    /* simple MMX/SSE operation */\n",
        lines="""\
    s->sc_alignment = MO_ALIGN_16;
    if (((b == 0x10 || b == 0x11) && b1 < 2) || ((b == 0x6f || b == 0x7f) && b1 == 2) || b == 0xf0 ||
        (b == 0x3a && (cpu_ldub_code(env, s->pc) & 0xfc) == 0x60)) {
        s->sc_alignment = 0;
    }
""",
        why="but for MOVUPS, MOVUPD, MOVDQU, LDDQU and the string comparisons (SDM 1 10.2.1; 2A table 2-21)",
        test=VECTORS,
    ),
    Edit(
        file=TRANSLATE,
        place=Place.INSTEAD,
        anchor="""\
    tcg_gen_qemu_ld_i64(tcg_ctx, s->tmp1_i64, s->A0, mem_index, MO_LEQ);
    tcg_gen_st_i64(tcg_ctx, s->tmp1_i64, tcg_ctx->cpu_env, offset + offsetof(ZMMReg, ZMM_Q(0)));
""",
        lines="""\
    TCGv_i64 sc_low = tcg_temp_new_i64(tcg_ctx);
    tcg_gen_qemu_ld_i64(tcg_ctx, sc_low, s->A0, mem_index, MO_LEQ | s->sc_alignment);
""",
        why="a load of 16 bytes",
        test=VECTORS,
    ),
    Edit(
        file=TRANSLATE,
        place=Place.AFTER,
        anchor="    tcg_gen_qemu_ld_i64(tcg_ctx, s->tmp1_i64, s->tmp0, mem_index, MO_LEQ);\n",
        lines="""\
    tcg_gen_st_i64(tcg_ctx, sc_low, tcg_ctx->cpu_env, offset + offsetof(ZMMReg, ZMM_Q(0)));
    tcg_temp_free_i64(tcg_ctx, sc_low);
""",
        why="which changes its register when all of it is there",
        test=VECTORS,
    ),
    Edit(
        file=TRANSLATE,
        place=Place.INSTEAD,
        anchor="    tcg_gen_qemu_st_i64(tcg_ctx, s->tmp1_i64, s->A0, mem_index, MO_LEQ);\n",
        lines="    tcg_gen_qemu_st_i64(tcg_ctx, s->tmp1_i64, s->A0, mem_index, MO_LEQ | s->sc_alignment);\n",
        why="a store of 16 bytes",
        test=VECTORS,
    ),
    Edit(
        file="qemu/include/hw/core/cpu.h",
        place=Place.INSTEAD,
        anchor="    cc->do_unaligned_access(cpu, addr, access_type, mmu_idx, retaddr);\n",
        lines="""\
    extern void sc_unaligned(CPUState *cpu, uintptr_t retaddr);
    sc_unaligned(cpu, retaddr);
""",
        why="an x86 has no such function in Unicorn",
        test=VECTORS,
    ),
    Edit(
        file="qemu/target/i386/excp_helper.c",
        place=Place.BEFORE,
        anchor="void raise_exception_err_ra(CPUX86State *env, int exception_index,\n",
        lines="""\
void sc_unaligned(CPUState *cpu, uintptr_t retaddr)
{
    raise_exception_err_ra(cpu->env_ptr, EXCP0D_GPF, 0, retaddr);
}

""",
        why="an operand that is not aligned is #GP",
        test=VECTORS,
    ),
    # How many bytes are loaded.
    Edit(
        file=TRANSLATE,
        place=Place.BEFORE,
        anchor="                switch (sz) {\n",
        lines="                sz = (b == 0x5a && b1 == 0) || (b == 0xe6 && b1 == 2) ? 3 : sz;\n",
        why="CVTPS2PD and CVTDQ2PD load 8 bytes",
        test=VECTORS,
    ),
    Edit(
        file=TRANSLATE,
        place=Place.INSTEAD,
        anchor="""\
                gen_ldo_env_A0(s, op2_offset);
            } else {
                rm = (modrm & 7) | REX_B(s);
                op2_offset = offsetof(CPUX86State,xmm_regs[rm]);
            }
            op1_offset = offsetof(CPUX86State,fpregs[reg & 7].mmx);
""",
        lines="""\
                if (b1 == 0) {
                    gen_ldq_env_A0(s, op2_offset);
                } else {
                    gen_ldo_env_A0(s, op2_offset);
                }
            } else {
                rm = (modrm & 7) | REX_B(s);
                op2_offset = offsetof(CPUX86State,xmm_regs[rm]);
            }
            op1_offset = offsetof(CPUX86State,fpregs[reg & 7].mmx);
""",
        why="CVTPS2PI and CVTTPS2PI load 8 bytes",
        test=VECTORS,
    ),
    Edit(
        file=TRANSLATE,
        place=Place.INSTEAD,
        anchor="""\
                gen_ldq_env_A0(s, op2_offset);
            } else {
                rm = (modrm & 7);
                op2_offset = offsetof(CPUX86State,fpregs[rm].mmx);
            }
        }
""",
        lines="""\
                if (b >= 0x60 && b <= 0x62) {
                    gen_op_ld_v(s, MO_32, s->T0, s->A0);
                    tcg_gen_st_tl(tcg_ctx, s->T0, tcg_ctx->cpu_env, op2_offset);
                } else {
                    gen_ldq_env_A0(s, op2_offset);
                }
            } else {
                rm = (modrm & 7);
                op2_offset = offsetof(CPUX86State,fpregs[rm].mmx);
            }
        }
""",
        why="PUNPCKLBW, PUNPCKLWD and PUNPCKLDQ of MMX registers load 4",
        test=VECTORS,
    ),
    Edit(
        file=TRANSLATE,
        place=Place.INSTEAD,
        anchor="""\
            if (val >= 8)
                goto unknown_op;
            sse_fn_epp = sse_op_table4[val][b1];
""",
        lines="            sse_fn_epp = sse_op_table4[val & 7][b1];\n",
        why="CMPPS has three bits of predicate, the others are ignored",
        test=VECTORS,
    ),
    Edit(
        file=TRANSLATE,
        place=Place.INSTEAD,
        anchor="""\
                    op2_offset = offsetof(CPUX86State,xmm_t0);
                    gen_lea_modrm(env, s, modrm);
                    gen_ldo_env_A0(s, op2_offset);
""",
        lines="""\
                    op2_offset = offsetof(CPUX86State,xmm_t0);
                    gen_lea_modrm(env, s, modrm);
                    if (b == 0x0a) {
                        gen_op_ld_v(s, MO_32, s->T0, s->A0);
                        tcg_gen_st_tl(tcg_ctx, s->T0, tcg_ctx->cpu_env, op2_offset);
                    } else if (b == 0x0b) {
                        gen_ldq_env_A0(s, op2_offset);
                    } else {
                        gen_ldo_env_A0(s, op2_offset);
                    }
""",
        why="ROUNDSS loads 4 bytes, ROUNDSD 8",
        test=VECTORS,
    ),
    # MXCSR: the flags of masked exceptions, which the arithmetic has noted, are in it when somebody looks.
    Edit(
        file="qemu/target/i386/helper.h",
        place=Place.BEFORE,
        anchor="DEF_HELPER_1(enter_mmx, void, env)\n",
        lines="DEF_HELPER_1(sc_update_mxcsr, void, env)\n",
        why="translated code can call it",
        test=VECTORS,
    ),
    Edit(
        file="qemu/target/i386/fpu_helper.c",
        place=Place.BEFORE,
        anchor="static void do_xsave_mxcsr(CPUX86State *env, target_ulong ptr, uintptr_t ra)\n{\n",
        lines="""\
void helper_sc_update_mxcsr(CPUX86State *env)
{
    int flags = get_float_exception_flags(&env->sse_status);
    if (flags & float_flag_output_denormal) {
        flags |= float_flag_underflow | float_flag_inexact;
    }
    env->mxcsr |= flags & 0x3d;
}

""",
        why="the flags have the same places there, but that of denormal operands, which is not noted",
        test=VECTORS,
    ),
    Edit(
        file="qemu/target/i386/fpu_helper.c",
        place=Place.AFTER,
        anchor="static void do_xsave_mxcsr(CPUX86State *env, target_ulong ptr, uintptr_t ra)\n{\n",
        lines="    helper_sc_update_mxcsr(env);\n",
        why="FXSAVE looks",
        test=VECTORS,
    ),
    Edit(
        file=TRANSLATE,
        place=Place.BEFORE,
        anchor="            tcg_gen_ld32u_tl(tcg_ctx, s->T0, tcg_ctx->cpu_env, offsetof(CPUX86State, mxcsr));\n",
        lines="            gen_helper_sc_update_mxcsr(tcg_ctx, tcg_ctx->cpu_env);\n",
        why="STMXCSR looks",
        test=VECTORS,
    ),
    Edit(
        file="qemu/target/i386/fpu_helper.c",
        place=Place.INSTEAD,
        anchor="    set_flush_to_zero((mxcsr & SSE_FZ) ? 1 : 0, &env->fp_status);\n",
        lines="""\
    set_flush_to_zero((mxcsr & SSE_FZ) ? 1 : 0, &env->sse_status);
    set_float_exception_flags(mxcsr & 0x3d, &env->sse_status);
""",
        why="what was loaded is what there is; flushing to zero is SSE's, not x87's",
        test=VECTORS,
    ),
    Edit(
        file="qemu/target/i386/fpu_helper.c",
        place=Place.BEFORE,
        anchor="    cpu_set_mxcsr(env, val);\n",
        lines="    if (val >> 16) {\n        raise_exception_ra(env, EXCP0D_GPF, GETPC());\n    }\n",
        why="reserved bits of MXCSR are #GP (SDM 2A, LDMXCSR)",
        test=VECTORS,
    ),
    Edit(
        file="qemu/target/i386/fpu_helper.c",
        place=Place.BEFORE,
        anchor="    cpu_set_mxcsr(env, cpu_ldl_data_ra(env, ptr + XO(legacy.mxcsr), ra));\n",
        lines="""\
    if (cpu_ldl_data_ra(env, ptr + XO(legacy.mxcsr), ra) >> 16) {
        raise_exception_ra(env, EXCP0D_GPF, ra);
    }
""",
        why="the same of FXRSTOR",
        test=VECTORS,
    ),
    Edit(
        file=TRANSLATE,
        place=Place.BEFORE,
        anchor="        switch(b) {\n        case 0x0f: /* 3DNow! data insns */\n",
        lines="""\
        bool sc_approximates = b == 0x52 || b == 0x53;
        if (sc_approximates) {
            tcg_gen_ld8u_tl(tcg_ctx, s->T0, tcg_ctx->cpu_env, offsetof(CPUX86State, sse_status.float_exception_flags));
        }
""",
        why="RSQRTPS and RCPPS raise no exceptions (SDM 2B)",
        test=VECTORS,
    ),
    Edit(
        file=TRANSLATE,
        place=Place.BEFORE,
        anchor="        if (b == 0x2e || b == 0x2f) {\n            set_cc_op(s, CC_OP_EFLAGS);\n        }\n    }\n",
        lines="""\
        if (sc_approximates) {
            tcg_gen_st8_tl(tcg_ctx, s->T0, tcg_ctx->cpu_env, offsetof(CPUX86State, sse_status.float_exception_flags));
        }
""",
        why="the flags are as they were",
        test=VECTORS,
    ),
    Edit(
        file="qemu/target/i386/cpu.h",
        place=Place.INSTEAD,
        anchor="     env->fpuc = fpuc;\n",
        lines="     env->fpuc = (fpuc & 0x1f3f) | 0x40;\n",
        why="reserved bits of the x87 control word have the values they have after FNINIT (SDM 1 8.1.5)",
        test=VECTORS,
    ),
)
