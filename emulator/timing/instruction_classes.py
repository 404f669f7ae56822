"""Which class an instruction belongs to, and what a class costs on a machine: the table of the block-cost model.

    capstone id --CLASS_OF--> InstructionClass --costs(profile)--> Cost(latency_cycles, occupancy_cycles, uops)

A *pipelined* class takes issue slots (`uops`) and, where something depends on its result, `latency_cycles`. A memory
operand that is read adds caches.l1d_latency_cycles; a MOVE or STACK that only reads takes that alone. An *occupying*
class (microcode, serialisation) holds the front end for `occupancy_cycles` and overlaps with nothing. A row says which
parameter of the profile has the cycles.

An id of capstone's is not always enough. The decoder looks at operands and prefixes as well:

    MOV with a control, debug or segment register    MOV_FROM_CR, MOV_TO_CR, MOV_TO_CR3, MOV_DR, SEGMENT_LOAD
    POP of a segment register                        SEGMENT_LOAD
    MOVSD, CMPSD with a vector register              MOVE, FP_ADD (capstone has one id for these and the string ones)
    DIV, IDIV with a 64-bit operand                  DIVIDE_64
    LOCK, and XCHG with memory                       LOCKED on top of their class
    REP                                              rep_start_cycles, rep_line_cycles and rep_scan_cycles instead

MODEL: one latency and one number of micro-operations for all forms of a class, whatever the operands' values; units
that take no new work for several cycles (dividers) do so only where their results are waited for.

Sources: Agner Fog, Instruction tables, and Intel, Optimization Reference Manual, appendix C, for which instructions are
alike, and for micro-operations; the profiles say where the cycles are from.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import IntEnum, auto
from types import MappingProxyType

import capstone.x86_const

from emulator.profiles.profile import Profile

ID_PREFIX = "X86_INS_"


class InstructionClass(IntEnum):
    """Instructions that cost alike. The numbers are those of the C engine."""

    MOVE = 0
    ALU = auto()
    CARRY = auto()
    CONDITIONAL = auto()
    SHIFT = auto()
    BIT_SCAN = auto()
    LEA = auto()
    MULTIPLY = auto()
    DIVIDE = auto()
    DIVIDE_64 = auto()
    BRANCH = auto()
    CALL = auto()
    RETURN = auto()
    STACK = auto()
    NOP = auto()
    PREFETCH = auto()
    FP_ADD = auto()
    FP_MULTIPLY = auto()
    FP_DIVIDE = auto()
    SIMD = auto()
    X87 = auto()
    X87_MICROCODE = auto()
    STRING = auto()
    STRING_SCAN = auto()
    LOCKED = auto()
    MEMORY_FENCE = auto()
    LOAD_FENCE = auto()
    PAUSE = auto()
    CPUID = auto()
    RDTSC = auto()
    RDMSR = auto()
    WRMSR = auto()
    MOV_FROM_CR = auto()
    MOV_TO_CR = auto()
    MOV_TO_CR3 = auto()
    MOV_DR = auto()
    CLTS = auto()
    INVLPG = auto()
    SYSCALL = auto()
    SYSRET = auto()
    SYSENTER = auto()
    SYSEXIT = auto()
    INT = auto()
    IRET = auto()
    FAR_TRANSFER = auto()
    SEGMENT_LOAD = auto()
    SWAPGS = auto()
    PUSHF = auto()
    POPF = auto()
    CLI_STI = auto()
    DESCRIPTOR_TABLE_LOAD = auto()
    DESCRIPTOR_TABLE_STORE = auto()
    FXSAVE = auto()
    FXRSTOR = auto()
    CLFLUSH = auto()
    WBINVD = auto()
    IO = auto()
    HLT = auto()
    MONITOR = auto()
    MWAIT = auto()
    LEAVES = auto()
    OTHER = auto()


@dataclass(frozen=True)
class Cost:
    """What one instruction of a class takes."""

    latency_cycles: int
    occupancy_cycles: int  # 0: pipelined
    uops: int


@dataclass(frozen=True)
class ClassRow:
    """`parameter`: its full name in a profile, or None where another model has all of the cost beyond an issue slot."""

    parameter: str | None
    uops: int
    mnemonics: str  # as capstone spells them

    @property
    def is_pipelined(self) -> bool:
        """Whether the parameter is a latency, as opposed to cycles in which nothing else happens."""
        return self.parameter is None or self.parameter.endswith("_latency_cycles")


# fmt: off
_C = InstructionClass
CLASSES: Mapping[InstructionClass, ClassRow] = MappingProxyType({
    # --- integer ------------------------------------------------------------------------------------------------------
    _C.MOVE: ClassRow("instructions.move_latency_cycles", 1, """
        mov movabs movbe movnti movsx movsxd movzx xchg bswap cbw cwde cdqe cwd cdq cqo lahf sahf movapd movaps
        movupd movups movdqa movdqu movd movq movss movhpd movhps movlpd movlps movhlps movlhps lddqu movntdq
        movntdqa movntpd movntps movntq movntsd movntss movdq2q movq2dq maskmovdqu maskmovq"""),
    _C.ALU: ClassRow("instructions.alu_latency_cycles", 1, """
        add and cmp dec inc neg not or sub test xor andn blsi blsmsk blsr clc cmc stc cld std salc xadd"""),
    _C.CARRY: ClassRow("instructions.carry_latency_cycles", 2, "adc sbb adcx adox"),
    _C.CONDITIONAL: ClassRow("instructions.conditional_latency_cycles", 2, """
        cmova cmovae cmovb cmovbe cmove cmovg cmovge cmovl cmovle cmovne cmovno cmovnp cmovns cmovo cmovp cmovs
        seta setae setb setbe sete setg setge setl setle setne setno setnp setns seto setp sets cmpxchg
        cmpxchg8b cmpxchg16b"""),
    _C.SHIFT: ClassRow("instructions.shift_latency_cycles", 1, """
        shl sal shr sar rol ror rcl rcr shld shrd shlx shrx sarx rorx bt btc btr bts bextr bzhi"""),
    _C.BIT_SCAN: ClassRow("instructions.bit_scan_latency_cycles", 1, "bsf bsr lzcnt tzcnt popcnt crc32 pdep pext"),
    _C.LEA: ClassRow("instructions.lea_latency_cycles", 1, "lea"),
    _C.MULTIPLY: ClassRow("instructions.multiply_latency_cycles", 1, """
        mul imul mulx aad pmaddubsw pmaddwd pmuldq pmulhrsw pmulhuw pmulhw pmulld pmullw pmuludq psadbw mpsadbw"""),
    _C.DIVIDE: ClassRow("instructions.divide_latency_cycles", 20, "div idiv aam"),
    _C.DIVIDE_64: ClassRow("instructions.divide_64_latency_cycles", 36, ""),  # by operand size
    _C.BRANCH: ClassRow(None, 1, """
        jmp ja jae jb jbe jcxz je jecxz jg jge jl jle jne jno jnp jns jo jp jrcxz js loop loope loopne"""),
    _C.CALL: ClassRow(None, 3, "call"),
    _C.RETURN: ClassRow(None, 2, "ret"),
    _C.STACK: ClassRow(None, 1, "push pop leave"),
    _C.NOP: ClassRow(None, 1, "nop wait endbr32 endbr64 femms emms fnop lock rep repne xacquire xrelease rex64 data16"),
    _C.PREFETCH: ClassRow(None, 1, """
        prefetch prefetchnta prefetcht0 prefetcht1 prefetcht2 prefetchw prefetchwt1 cldemote"""),

    # --- vectors and floating point -----------------------------------------------------------------------------------
    _C.FP_ADD: ClassRow("instructions.fp_add_latency_cycles", 1, """
        addpd addps addsd addss addsubpd addsubps subpd subps subsd subss haddpd haddps hsubpd hsubps cmppd
        cmpps cmpss comisd comiss ucomisd ucomiss maxpd maxps maxsd maxss minpd minps minsd minss roundpd
        roundps roundsd roundss cvtdq2pd cvtdq2ps cvtpd2dq cvtpd2pi cvtpd2ps cvtpi2pd cvtpi2ps cvtps2dq cvtps2pd
        cvtps2pi cvtsd2si cvtsd2ss cvtsi2sd cvtsi2ss cvtss2sd cvtss2si cvttpd2dq cvttpd2pi cvttps2dq cvttps2pi
        cvttsd2si cvttss2si fadd fiadd fsub fsubp fsubr fsubrp fisub fisubr fcom fcomp fcompp fcomi fcompi fucom
        fucomp fucompp fucomi fucompi ficom ficomp ftst"""),
    _C.FP_MULTIPLY: ClassRow("instructions.fp_multiply_latency_cycles", 1, """
        mulpd mulps mulsd mulss dppd dpps rcpps rcpss rsqrtps rsqrtss fmul fmulp fimul"""),
    _C.FP_DIVIDE: ClassRow("instructions.fp_divide_latency_cycles", 1, """
        divpd divps divsd divss sqrtpd sqrtps sqrtsd sqrtss fdiv fdivp fdivr fdivrp fidiv fidivr fsqrt"""),
    _C.SIMD: ClassRow("instructions.simd_latency_cycles", 1, """
        andnpd andnps andpd andps orpd orps xorpd xorps pand pandn por pxor ptest blendpd blendps blendvpd
        blendvps pblendvb pblendw extractps insertps movddup movshdup movsldup movmskpd movmskps shufpd shufps
        unpckhpd unpckhps unpcklpd unpcklps pabsb pabsd pabsw packssdw packsswb packusdw packuswb paddb paddd
        paddq paddsb paddsw paddusb paddusw paddw psubb psubd psubq psubsb psubsw psubusb psubusw psubw palignr
        pavgb pavgw pcmpeqb pcmpeqd pcmpeqq pcmpeqw pcmpgtb pcmpgtd pcmpgtq pcmpgtw pextrb pextrd pextrq pextrw
        pinsrb pinsrd pinsrq pinsrw phaddd phaddsw phaddw phsubd phsubsw phsubw phminposuw pmaxsb pmaxsd pmaxsw
        pmaxub pmaxud pmaxuw pminsb pminsd pminsw pminub pminud pminuw pmovmskb pmovsxbd pmovsxbq pmovsxbw
        pmovsxdq pmovsxwd pmovsxwq pmovzxbd pmovzxbq pmovzxbw pmovzxdq pmovzxwd pmovzxwq pshufb pshufd pshufhw
        pshuflw pshufw psignb psignd psignw pslld pslldq psllq psllw psrad psraw psrld psrldq psrlq psrlw
        punpckhbw punpckhdq punpckhqdq punpckhwd punpcklbw punpckldq punpcklqdq punpcklwd"""),
    _C.X87: ClassRow("instructions.x87_latency_cycles", 1, """
        fld fld1 fldl2e fldl2t fldlg2 fldln2 fldpi fldz fild fst fstp fstpnce fist fistp fisttp fabs fchs fxch
        ffree ffreep fincstp fdecstp fcmovb fcmovbe fcmove fcmovnb fcmovnbe fcmovne fcmovnp fcmovnu fcmovu fxam
        fnstcw fnstsw stmxcsr fnclex fsetpm fdisi8087_nop feni8087_nop"""),
    _C.X87_MICROCODE: ClassRow("instructions.x87_microcode_cycles", 20, """
        fsin fcos fsincos fptan fpatan f2xm1 fyl2x fyl2xp1 fprem fprem1 fscale fxtract frndint fbld fbstp fninit
        fldcw ldmxcsr fldenv fnstenv fnsave frstor"""),

    # --- strings; without REP, or one iteration -----------------------------------------------------------------------
    _C.STRING: ClassRow("instructions.string_latency_cycles", 4, "movsb movsw movsd movsq stosb stosw stosd stosq"),
    _C.STRING_SCAN: ClassRow("instructions.string_latency_cycles", 4, """
        cmpsb cmpsw cmpsd cmpsq scasb scasw scasd scasq lodsb lodsw lodsd lodsq"""),

    # --- order --------------------------------------------------------------------------------------------------------
    _C.LOCKED: ClassRow("instructions.locked_cycles", 1, ""),  # by prefix and operand
    _C.MEMORY_FENCE: ClassRow("instructions.memory_fence_cycles", 2, "mfence"),
    _C.LOAD_FENCE: ClassRow("instructions.load_fence_cycles", 2, "lfence sfence"),
    _C.PAUSE: ClassRow("core.pause_cycles", 1, "pause"),

    # --- system -------------------------------------------------------------------------------------------------------
    _C.CPUID: ClassRow("instructions.cpuid_cycles", 1, "cpuid"),
    _C.RDTSC: ClassRow("instructions.rdtsc_cycles", 1, "rdtsc rdtscp rdpmc"),
    _C.RDMSR: ClassRow("instructions.rdmsr_cycles", 1, "rdmsr"),
    _C.WRMSR: ClassRow("instructions.wrmsr_cycles", 1, "wrmsr"),
    _C.MOV_FROM_CR: ClassRow("instructions.mov_from_cr_cycles", 1, "smsw"),  # and by operand
    _C.MOV_TO_CR: ClassRow("instructions.mov_to_cr_cycles", 1, "lmsw"),  # and by operand
    _C.MOV_TO_CR3: ClassRow("instructions.mov_to_cr3_cycles", 1, ""),  # by operand
    _C.MOV_DR: ClassRow("instructions.mov_dr_cycles", 1, ""),  # by operand
    _C.CLTS: ClassRow("instructions.clts_cycles", 1, "clts"),
    _C.INVLPG: ClassRow("instructions.invlpg_cycles", 1, "invlpg"),
    _C.SYSCALL: ClassRow("instructions.syscall_cycles", 1, "syscall"),
    _C.SYSRET: ClassRow("instructions.sysret_cycles", 1, "sysret sysretq"),
    _C.SYSENTER: ClassRow("instructions.sysenter_cycles", 1, "sysenter"),
    _C.SYSEXIT: ClassRow("instructions.sysexit_cycles", 1, "sysexit sysexitq"),
    _C.INT: ClassRow("instructions.int_cycles", 1, "int int1 int3 into"),
    _C.IRET: ClassRow("instructions.iret_cycles", 1, "iret iretd iretq"),
    _C.FAR_TRANSFER: ClassRow("instructions.far_transfer_cycles", 1, "lcall ljmp retf retfq"),
    _C.SEGMENT_LOAD: ClassRow("instructions.segment_load_cycles", 1, "lds les lfs lgs lss"),  # and by operand
    _C.SWAPGS: ClassRow("instructions.swapgs_cycles", 1, "swapgs"),
    _C.PUSHF: ClassRow("instructions.pushf_cycles", 1, "pushf pushfd pushfq"),
    _C.POPF: ClassRow("instructions.popf_cycles", 1, "popf popfd popfq"),
    _C.CLI_STI: ClassRow("instructions.cli_sti_cycles", 1, "cli sti"),
    _C.DESCRIPTOR_TABLE_LOAD: ClassRow("instructions.descriptor_table_load_cycles", 1, "lgdt lidt lldt ltr"),
    _C.DESCRIPTOR_TABLE_STORE: ClassRow("instructions.descriptor_table_store_cycles", 1, "sgdt sidt sldt str"),
    _C.FXSAVE: ClassRow("instructions.fxsave_cycles", 1, "fxsave fxsave64"),
    _C.FXRSTOR: ClassRow("instructions.fxrstor_cycles", 1, "fxrstor fxrstor64"),
    _C.CLFLUSH: ClassRow("instructions.clflush_cycles", 1, "clflush clflushopt clwb clzero"),
    _C.WBINVD: ClassRow("instructions.wbinvd_cycles", 1, "wbinvd wbnoinvd invd"),
    _C.IO: ClassRow(None, 1, "in out insb insw insd outsb outsw outsd"),  # ports: core.port_access_cycles
    _C.HLT: ClassRow("instructions.hlt_cycles", 1, "hlt"),
    _C.MONITOR: ClassRow("instructions.monitor_cycles", 1, "monitor"),
    _C.MWAIT: ClassRow("instructions.mwait_cycles", 1, "mwait"),

    # --- always a VM exit or, as there is no AVX, XSAVE, CET, MPX, SGX, AMD's or VIA's, #UD: the event has the cost ---
    _C.LEAVES: ClassRow(None, 1, """
        vmcall vmclear vmfunc vmlaunch vmptrld vmptrst vmread vmresume vmwrite vmxoff vmxon invept invvpid
        invpcid getsec ud0 ud1 ud2 rsm xgetbv xsetbv xrstor xrstor64 xrstors xrstors64 xsave xsave64 xsavec
        xsavec64 xsaveopt xsaveopt64 xsaves xsaves64 rdfsbase rdgsbase wrfsbase wrgsbase rdpkru wrpkru rdpid
        rdrand rdseed clac stac bndcl bndcn bndcu bndldx bndmk bndmov bndstx clrssbsy incsspd incsspq rdsspd
        rdsspq rstorssp saveprevssp setssbsy wrssd wrssq wrussd wrussq encls enclu enclv pconfig ptwrite
        movdir64b movdiri tpause umonitor umwait xabort xbegin xend xtest aesdec aesdeclast aesenc aesenclast
        aesimc aeskeygenassist pclmulqdq gf2p8affineinvqb gf2p8affineqb gf2p8mulb sha1msg1 sha1msg2 sha1nexte
        sha1rnds4 sha256msg1 sha256msg2 sha256rnds2 clgi stgi skinit vmload vmmcall vmrun vmsave invlpga
        monitorx mwaitx extrq insertq blcfill blci blcic blcmsk blcs blsfill blsic t1mskc tzmsk llwpcb slwpcb
        lwpins lwpval pavgusb pf2id pf2iw pfacc pfadd pfcmpeq pfcmpge pfcmpgt pfmax pfmin pfmul pfnacc pfpnacc
        pfrcp pfrcpit1 pfrcpit2 pfrsqit1 pfrsqrt pfsub pfsubr pi2fd pi2fw pmulhrw pswapd montmul xcryptcbc
        xcryptcfb xcryptctr xcryptecb xcryptofb xsha1 xsha256 xstore"""),
    _C.OTHER: ClassRow("instructions.other_cycles", 4, """
        invalid aaa aas daa das arpl bound enter lar lsl verr verw xlatb popaw popal pushaw pushal pcmpestri
        pcmpestrm pcmpistri pcmpistrm"""),
})
# fmt: on


def _ids() -> dict[str, int]:
    """Capstone's number of every mnemonic."""
    constants = vars(capstone.x86_const)
    names = {key[len(ID_PREFIX) :].lower(): number for key, number in constants.items() if key.startswith(ID_PREFIX)}
    return {name: number for name, number in names.items() if name != "ending"}


def is_vector_extension(mnemonic: str) -> bool:
    """Whether `mnemonic` is of AVX, AVX-512 or XOP, by its spelling: V..., or the mask registers' K...; no other is."""
    return mnemonic[0] in "vk" and mnemonic not in _BY_MNEMONIC


_BY_MNEMONIC = {name: number for number, row in CLASSES.items() for name in row.mnemonics.split()}


def _class_of() -> bytes:
    classes = bytearray(capstone.x86_const.X86_INS_ENDING)
    for name, number in _ids().items():
        classes[number] = InstructionClass.LEAVES if is_vector_extension(name) else _BY_MNEMONIC[name]
    return bytes(classes)


CLASS_OF = _class_of()  # by capstone id


def costs(profile: Profile) -> tuple[Cost, ...]:
    """What each class costs on the machine of `profile`, by class."""
    return tuple(_cost(profile, CLASSES[number]) for number in InstructionClass)


def _cost(profile: Profile, row: ClassRow) -> Cost:
    if row.parameter is None:
        return Cost(latency_cycles=1, occupancy_cycles=0, uops=row.uops)
    section, _, name = row.parameter.partition(".")
    cycles = int(getattr(getattr(profile, section), name))
    if row.is_pipelined:
        return Cost(latency_cycles=cycles, occupancy_cycles=0, uops=row.uops)
    return Cost(latency_cycles=0, occupancy_cycles=cycles, uops=row.uops)


def c_defines() -> str:
    """Text of a C header: `CLASS_<name>` for every class, and how many there are."""
    rows = "".join(f"#define CLASS_{number.name} {number.value}\n" for number in InstructionClass)
    return rows + f"#define CLASS_COUNT {len(InstructionClass)}\n"
