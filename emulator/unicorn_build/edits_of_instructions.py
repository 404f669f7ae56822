"""Instructions that Unicorn has wrong."""

from emulator.unicorn_build.edit import Edit, Place

EDITS_OF_INSTRUCTIONS = (
    Edit(
        file="qemu/target/i386/translate.c",
        place=Place.AFTER,
        anchor="""\
        case 1: /* CMPXCHG8, CMPXCHG16 */
            if (mod == 3) {
                goto illegal_op;
            }
""",
        lines="            gen_update_cc_op(s);\n",
        why="CMPXCHG8B changes ZF alone; the other flags were those of another operation than the last (SDM 2A)",
        test="tests/emulator/engine/unicorn/test_instructions.py",
    ),
    Edit(
        file="qemu/target/i386/translate.c",
        place=Place.AFTER,
        anchor="    case 0xc2: /* ret im */\n        val = x86_ldsw_code(env, s);\n",
        lines="        val = (uint16_t)val;\n",
        why="RET takes an unsigned number of bytes from the stack (SDM 2B)",
        test="tests/emulator/engine/unicorn/test_instructions.py",
    ),
    Edit(
        file="qemu/target/i386/translate.c",
        place=Place.AFTER,
        anchor="    case 0xca: /* lret im */\n        val = x86_ldsw_code(env, s);\n",
        lines="        val = (uint16_t)val;\n",
        why="the same of a far return",
        test="tests/emulator/engine/unicorn/test_instructions.py",
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
)
