"""What is an instruction, and what is none: #UD comes before what its operand or the privilege would raise."""

from emulator.cpuid import FEATURES_1_ECX, FEATURES_7_EBX, FEATURES_EXT_ECX, FEATURES_EXT_EDX, feature_word
from emulator.unicorn_build.edit import Edit, Place

TRANSLATE = "qemu/target/i386/translate.c"
ENCODINGS = "tests/emulator/engine/unicorn/test_encodings.py"

EDITS_OF_ENCODINGS = (
    # What is none.
    Edit(
        file=TRANSLATE,
        place=Place.AFTER,
        anchor="    case 0x8f: /* pop Ev */\n        modrm = x86_ldub_code(env, s);\n",
        lines="        if (modrm & 0x38) {\n            goto illegal_op;\n        }\n",
        why="POP is 8F /0; the others are XOP's, which CPUID does not offer",
        test=ENCODINGS,
    ),
    Edit(
        file=TRANSLATE,
        place=Place.AFTER,
        anchor="""\
    case 0xc7: /* mov Ev, Iv */
        ot = mo_b_d(b, dflag);
        modrm = x86_ldub_code(env, s);
""",
        lines="        if (modrm & 0x38) {\n            goto illegal_op;\n        }\n        rex_r = 0;\n",
        why="MOV is C6 and C7 /0, where REX.R means nothing; XABORT and XBEGIN are not offered",
        test=ENCODINGS,
    ),
    Edit(
        file=TRANSLATE,
        place=Place.AFTER,
        anchor="        if (op >= 2 && b == 0xfe) {\n            goto unknown_op;\n        }\n",
        lines="        if (op == 7 || (mod == 3 && (op == 3 || op == 5))) {\n            goto unknown_op;\n        }\n",
        why="FF /7 is none, and was seen behind its operand",
        test=ENCODINGS,
    ),
    Edit(
        file=TRANSLATE,
        place=Place.AFTER,
        anchor="""\
    case 0x1ba: /* bt/bts/btr/btc Gv, im */
        ot = dflag;
        modrm = x86_ldub_code(env, s);
""",
        lines="        if (!(modrm & 0x20)) {\n            goto unknown_op;\n        }\n",
        why="0F BA /0 to /3 are none, and were seen behind their operand",
        test=ENCODINGS,
    ),
    Edit(
        file=TRANSLATE,
        place=Place.AFTER,
        anchor="    case 0x120: /* mov reg, crN */\n    case 0x122: /* mov crN, reg */\n",
        lines="""\
        switch ((cpu_ldub_code(env, s->pc) >> 3 & 7) | rex_r) {
        case 0: case 2: case 3: case 4: case 8:
            break;
        default:
            goto unknown_op;
        }
""",
        why="a control register that does not exist is #UD at every CPL",
        test=ENCODINGS,
    ),
    Edit(
        file=TRANSLATE,
        place=Place.AFTER,
        anchor="    case 0x121: /* mov reg, drN */\n    case 0x123: /* mov drN, reg */\n",
        lines="        if (rex_r) {\n            goto illegal_op;\n        }\n",
        why="so is a debug register",
        test=ENCODINGS,
    ),
    Edit(
        file=TRANSLATE,
        place=Place.AFTER,
        anchor="    case 0x1c3: /* MOVNTI reg, mem */\n",
        lines="""\
        if (prefixes & (PREFIX_DATA | PREFIX_REPZ | PREFIX_REPNZ)) {
            goto illegal_op;
        }
""",
        why="MOVNTI has no form with 66, F2 or F3",
        test=ENCODINGS,
    ),
    Edit(
        file=TRANSLATE,
        place=Place.BEFORE,
        anchor="static void gen_sse(CPUX86State *env, DisasContext *s, int b,\n",
        lines="""\
/* Vector opcodes that are no instructions, whatever the tables have. `form`: of which mandatory prefix. */
static bool sc_is_none(int b, int form, bool has_memory)
{
    switch (b) {
    case 0x0f: /* 3DNow */
    case 0x78: case 0x79: /* SSE4A */
        return true;
    case 0x2b:
        return form >= 2 || !has_memory;
    case 0x12: case 0x16:
        return form == 1 && !has_memory;
    case 0x50: case 0x71: case 0x72: case 0x73: case 0xc5: case 0xd7: case 0xf7:
        return has_memory;
    case 0xd6:
        return form >= 2 && has_memory;
    default:
        return false;
    }
}

""",
        why="Unicorn runs some that CPUID does not offer, and sees others behind their operand",
        test=ENCODINGS,
    ),
    Edit(
        file=TRANSLATE,
        place=Place.BEFORE,
        anchor="    /* VEX.L (256 bit) encodings are not supported */\n",
        lines="    if (sc_is_none(b, b1, mod != 3)) {\n        goto unknown_op;\n    }\n",
        why="they are none",
        test=ENCODINGS,
    ),
    Edit(
        file=TRANSLATE,
        place=Place.AFTER,
        anchor="            /* 4.1.1-4.1.3: No preceding lock, 66, f2, f3, or rex prefixes. */\n",
        lines="            goto illegal_op;\n",
        why="CPUID offers nothing that has a VEX prefix; Unicorn takes the SSE forms for what they are without",
        test=ENCODINGS,
    ),
    Edit(
        file=TRANSLATE,
        place=Place.AFTER,
        anchor="    dc->cpuid_xsave_features = env->features[FEAT_XSAVE];\n",
        lines=f"""\
    dc->cpuid_ext_features &= {feature_word(FEATURES_1_ECX):#x};
    dc->cpuid_ext2_features &= {feature_word(FEATURES_EXT_EDX):#x} | CPUID_EXT2_RDTSCP;
    dc->cpuid_ext3_features &= {feature_word(FEATURES_EXT_ECX):#x};
    dc->cpuid_7_0_ebx_features &= {feature_word(FEATURES_7_EBX):#x};
    dc->cpuid_xsave_features = 0;
""",
        why="what CPUID does not offer is none, whatever Unicorn's model of a CPU has: AES, PCLMULQDQ, XSAVE; but for"
        " RDTSCP, which emulator/engine/arch does with all that VMX has for it",
        test=ENCODINGS,
    ),
    Edit(
        file=TRANSLATE,
        place=Place.AFTER,
        anchor="    case 0x101:\n        modrm = x86_ldub_code(env, s);\n",
        lines="""\
        if (modrm >= 0xd8 && modrm <= 0xdf && (s->flags & HF_GUEST_MASK)) {
            goto illegal_op;
        }
""",
        why="the instructions of AMD's SVM, which CPUID does not offer; the engine runs all guests in its guest mode",
        test=ENCODINGS,
    ),
    # What is one.
    Edit(
        file=TRANSLATE,
        place=Place.AFTER,
        anchor="""\
    case 0xf6: /* GRP3 */
    case 0xf7:
        ot = mo_b_d(b, dflag);

        modrm = x86_ldub_code(env, s);
""",
        lines="        modrm &= (modrm & 0x38) == 8 ? ~0x38 : ~0;\n",
        why="F6 and F7 /1 are TEST, too",
        test=ENCODINGS,
    ),
    Edit(
        file=TRANSLATE,
        place=Place.INSTEAD,
        anchor="""\
        case 3: /* prefetchnt0 */
            if (mod == 3)
                goto illegal_op;
""",
        lines="        case 3: /* PREFETCHT2 */\n",
        why="a hint with a register operand does nothing",
        test=ENCODINGS,
    ),
    Edit(
        file=TRANSLATE,
        place=Place.INSTEAD,
        anchor="""\
        if (mod == 3)
            goto illegal_op;
        gen_nop_modrm(env, s, modrm);
        break;
    case 0x1aa: /* rsm */
""",
        lines="""\
        gen_nop_modrm(env, s, modrm);
        break;
    case 0x1aa: /* rsm */
""",
        why="the same of 0F 0D",
        test=ENCODINGS,
    ),
)
