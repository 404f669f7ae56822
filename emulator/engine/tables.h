/* What a walk of page tables by software needs, and what it has found: see tables.c. build.py gives this to cffi. */
typedef struct {
    uint64_t start, end, hpa; /* physical addresses [start, end) lie in one piece of the host's memory at `hpa` */
} sc_piece;
typedef struct {
    uint64_t gpa, hpa, entry; /* as it is after the walk */
} sc_visit;
typedef struct {
    uint8_t *memory; /* the host's */
    struct sc_code_map *code;
    uint64_t nobody_hpa, nobody_mask; /* a page of tables where there is no memory lies there */
    sc_piece pieces[TABLE_PIECES_MAX];
    uint64_t piece_count;
} sc_table_memory;
typedef struct {
    uint64_t is_fault, error_code;              /* #PF; else: */
    uint64_t gpa, rights, is_dirty, page_shift; /* `rights`: WRITABLE, USER of the whole path, and NO_EXECUTE */
    uint64_t visit_count, mark_count;           /* entries read, and written to then */
    uint64_t marked_hpas[4];
    sc_visit visits[4];
} sc_table_walk;
