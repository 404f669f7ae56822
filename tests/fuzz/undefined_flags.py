"""Flags that instructions leave undefined (SDM volume 2, "Flags Affected"): each processor has its own way."""

CF, PF, AF, ZF, SF, OF = 1, 4, 0x10, 0x40, 0x80, 0x800
STATUS = CF | PF | AF | ZF | SF | OF

_ROWS = (
    # undefined, instructions
    (AF, "and or xor test andn"),
    (SF | ZF | AF | PF, "mul imul"),
    (STATUS, "div idiv"),
    (CF | OF | AF, "shl shr sar sal"),  # OF: counts other than 1; CF: counts above the operand's size
    (OF | CF, "rol ror rcl rcr"),
    (STATUS, "shld shrd"),
    (OF | SF | AF | PF, "bt bts btr btc lzcnt tzcnt"),
    (STATUS & ~ZF, "bsf bsr"),
    (OF | SF | ZF | PF, "aaa aas"),
    (OF, "daa das"),
    (OF | AF | CF, "aam aad"),
    (AF | PF, "blsi blsr blsmsk bzhi"),
    (AF | SF | PF, "bextr"),
    (STATUS, "?"),  # the bytes behind what capstone does not know may run as other instructions
)
UNDEFINED = {name: mask for mask, names in _ROWS for name in names.split()}
