"""Segment registers and descriptor tables: what loading them checks and changes."""

from emulator.unicorn_build.edit import Edit, Place

SEGMENTS = "qemu/target/i386/seg_helper.c"
TRANSLATE = "qemu/target/i386/translate.c"
TEST = "tests/emulator/engine/unicorn/test_segments.py"

EDITS_OF_SEGMENTS = (
    # Loading CS or SS sets the accessed bit of its descriptor (SDM 3A 3.4.5.1).
    Edit(
        file=SEGMENTS,
        place=Place.BEFORE,
        anchor="static inline unsigned int get_seg_limit(uint32_t e1, uint32_t e2)\n",
        lines="""\
static bool sc_is_canonical(target_ulong address)
{
    return (target_ulong)((int64_t)(address << 16) >> 16) == address;
}

void helper_sc_check_canonical(CPUX86State *env, target_ulong address)
{
    if (!sc_is_canonical(address)) {
        raise_exception_err_ra(env, EXCP0D_GPF, 0, GETPC());
    }
}

static void sc_mark_accessed(CPUX86State *env, int selector, uint32_t *high, uintptr_t retaddr)
{
    if (!(*high & DESC_A_MASK)) {
        SegmentCache *table = selector & 4 ? &env->ldt : &env->gdt;
        *high |= DESC_A_MASK;
        cpu_stb_kernel_ra(env, table->base + (selector & 0xfff8) + 5, *high >> 8, retaddr);
    }
}

""",
        why="what the next edits call",
        test=TEST,
    ),
    *(
        Edit(
            file=SEGMENTS,
            place=Place.BEFORE,
            anchor=anchor,
            lines=f"        sc_mark_accessed(env, new_cs, &e2, {retaddr});\n",
            why=f"CS of a {what}",
            test=TEST,
        )
        for what, retaddr, anchor in (
            ("far return to the same ring", "retaddr", "        /* return to same privilege level */\n"),
            (
                "far call",
                "GETPC()",
                "#ifdef TARGET_X86_64\n        /* XXX: check 16/32 bit cases in long mode */\n",
            ),
            (
                "far jump",
                "GETPC()",
                """\
        cpu_x86_load_seg_cache(env, R_CS, (new_cs & 0xfffc) | cpl,
                       get_seg_base(e1, e2), limit, e2);
""",
            ),
        )
    ),
    Edit(
        file=SEGMENTS,
        place=Place.INSTEAD,
        anchor="""\
                raise_exception_err_ra(env, EXCP0B_NOSEG, new_ss & 0xfffc, retaddr);
            }
""",
        lines="""\
                raise_exception_err_ra(env, EXCP0C_STACK, new_ss & 0xfffc, retaddr);
            }
            sc_mark_accessed(env, new_cs, &e2, retaddr);
            sc_mark_accessed(env, new_ss, &ss_e2, retaddr);
""",
        why="CS and SS of a far return to an outer ring; a stack segment that is absent is #SS (SDM 2A, IRET)",
        test=TEST,
    ),
    Edit(
        file=SEGMENTS,
        place=Place.BEFORE,
        anchor="""\
                cpu_x86_load_seg_cache(env, R_SS, new_ss,
                                       0, 0xffffffff,
""",
        lines="                sc_mark_accessed(env, new_cs, &e2, retaddr);\n",
        why="CS of one with a null SS",
        test=TEST,
    ),
    # What a return to an outer ring takes away, and what its frame says.
    Edit(
        file=SEGMENTS,
        place=Place.INSTEAD,
        anchor="            cpu_x86_load_seg_cache(env, seg_reg, 0, 0, 0, 0);\n",
        lines="""\
            cpu_x86_load_seg_cache(env, seg_reg, 0, env->segs[seg_reg].base, env->segs[seg_reg].limit, 0);
""",
        why="the selector becomes null; the base stays, which is that of FS or GS in 64-bit code (SDM 2A, IRET)",
        test=TEST,
    ),
    Edit(
        file=SEGMENTS,
        place=Place.INSTEAD,
        anchor="                if (new_eflags & VM_MASK) {\n",
        lines="                if ((new_eflags & VM_MASK) && !(env->hflags & (HF_CPL_MASK | HF_LMA_MASK))) {\n",
        why="an IRET enters virtual-8086 mode from ring 0 alone, and not in IA-32e mode (SDM 2A, IRET)",
        test=TEST,
    ),
    Edit(
        file=SEGMENTS,
        place=Place.AFTER,
        anchor="    new_eflags = 0; /* avoid warning */\n",
        lines="    if (env->hflags & HF_CS64_MASK) {\n        sp_mask = -1;\n        ssp = 0;\n    }\n",
        why="in 64-bit mode the stack is at RSP whatever the operand size",
        test=TEST,
    ),
    Edit(
        file=SEGMENTS,
        place=Place.INSTEAD,
        anchor="#define SEG_ADDL(ssp, sp, sp_mask) ((uint32_t)((ssp) + (sp & (sp_mask))))\n",
        lines="""\
#define SEG_ADDL(ssp, sp, sp_mask) \\
    ((target_ulong)(sp_mask) == (target_ulong)-1 ? (sp) : (uint32_t)((ssp) + (sp & (sp_mask))))
""",
        why="and its addresses have 64 bits",
        test=TEST,
    ),
    # A far call or return uses the stack with the rights of its ring. (Events are delivered by emulator/engine/arch.)
    *(
        Edit(
            file=SEGMENTS,
            place=Place.INSTEAD,
            anchor=f"{before}cpu_{access}_kernel_ra(env, {place}",
            lines=f"{before}cpu_{access}_data_ra(env, {place}",
            why="Unicorn pushes and pops with a supervisor's rights, so ring 3 read and wrote the kernel's memory",
            test=TEST,
        )
        for before, access, place in (
            ("        ", "stw", "(ssp) + (sp & (sp_mask)), (val), ra);"),
            ("        ", "stl", "SEG_ADDL(ssp, sp, sp_mask), (uint32_t)(val), ra);"),
            ("        ", "stq", "sp, (val), ra);"),
            ("val = ", "lduw", "(ssp) + (sp & (sp_mask)), ra);"),
            ("val = (uint32_t)", "ldl", "SEG_ADDL(ssp, sp, sp_mask), ra);"),
            ("val = ", "ldq", "sp, ra);"),
        )
    ),
    # Null selectors, and bases that are not canonical.
    Edit(
        file=SEGMENTS,
        place=Place.INSTEAD,
        anchor="""\
            && (!(env->hflags & HF_CS64_MASK) || cpl == 3)
#endif
            ) {
            raise_exception_err_ra(env, EXCP0D_GPF, 0, GETPC());
""",
        lines="""\
            && (!(env->hflags & HF_CS64_MASK) || cpl == 3 || (selector & 3) != cpl)
#endif
            ) {
            raise_exception_err_ra(env, EXCP0D_GPF, 0, GETPC());
""",
        why="a null SS has the RPL that CPL is (SDM 2B, MOV)",
        test=TEST,
    ),
    Edit(
        file=SEGMENTS,
        place=Place.BEFORE,
        anchor="        /* NULL selector case: invalid TR */\n",
        lines="        raise_exception_err_ra(env, EXCP0D_GPF, 0, GETPC());\n",
        why="LTR takes no null selector",
        test=TEST,
    ),
    *(
        Edit(
            file=SEGMENTS,
            place=Place.BEFORE,
            anchor=f"            load_seg_cache_raw_dt(&env->{table}, e1, e2);\n            env->{table}.base |=",
            lines="""\
            if (!sc_is_canonical((target_ulong)e3 << 32 | get_seg_base(e1, e2))) {
                raise_exception_err_ra(env, EXCP0D_GPF, selector & 0xfffc, GETPC());
            }
""",
            why=f"{name} takes no base that is not canonical",
            test=TEST,
        )
        for table, name in (("ldt", "LLDT"), ("tr", "LTR"))
    ),
    Edit(
        file="qemu/target/i386/helper.h",
        place=Place.BEFORE,
        anchor="DEF_HELPER_2(ldmxcsr, void, env, i32)\n",
        lines="DEF_HELPER_2(sc_check_canonical, void, env, tl)\n",
        why="translated code can call it",
        test=TEST,
    ),
    *(
        Edit(
            file=TRANSLATE,
            place=Place.BEFORE,
            anchor=f"""\
            tcg_gen_st_tl(tcg_ctx, s->T0, tcg_ctx->cpu_env, offsetof(CPUX86State, {table}.base));
""",
            lines="""\
            if (CODE64(s)) {
                gen_helper_sc_check_canonical(tcg_ctx, tcg_ctx->cpu_env, s->T0);
            }
""",
            why=f"{name} takes none either",
            test=TEST,
        )
        for table, name in (("gdt", "LGDT"), ("idt", "LIDT"))
    ),
)
