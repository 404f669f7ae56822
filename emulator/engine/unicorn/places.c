/* Places in host memory: Python is told before the instruction behind one that has accessed one of them, or when another
 * value is there than Python knows of (a debugger's watchpoints).
 *
 *   sc_access --> note_access --.                              .--> sc_instruction_callback --> sc_noted_accesses
 *                               +--> on_code, of spans.c, of --'
 *   are_places_told: compare --'     every instruction
 *
 * So each change is seen, whoever made it: a store, a walk that sets accessed bits, an event on its way through the IDT, a
 * VMM, a device. Of loads, and stores of what is there already, those are seen that the engine executes.
 * MODEL: not those of instructions that arch/ executes itself (INS, OUTS, events); and of an access that crosses pages only
 * the first one.
 */
#include <string.h>
#include "state.h"

bool are_places_told(const sc_cpu *cpu) {
    if (!cpu->port.places.count) return false;
    if (cpu->port.places.noted_count) return true;
    const uint8_t *known = cpu->port.places.known;
    for (unsigned i = 0; i < cpu->port.places.count; known += cpu->port.places.at[i++].bytes)
        if (memcmp(cpu->memory + cpu->port.places.at[i].hpa, known, cpu->port.places.at[i].bytes)) return true;
    return false;
}

void note_access(sc_cpu *cpu, uint64_t hpa, unsigned bytes, bool is_write) {
    for (unsigned i = 0; i < cpu->port.places.count; i++) {
        typeof(&cpu->port.places.at[0]) place = &cpu->port.places.at[i];
        if (!place->tells_accesses || hpa + bytes <= place->hpa || place->hpa + place->bytes <= hpa) continue;
        if (cpu->port.places.noted_count == NOTED_MAX) return;
        unsigned at = cpu->port.places.noted_count++;
        cpu->port.places.noted[at].hpa = hpa;
        cpu->port.places.noted[at].bytes = bytes;
        cpu->port.places.noted[at].is_write = is_write;
        cpu->port.places.noted[at].pc = cpu->port.places.pc;
        return;
    }
}

void forget_accesses_at(sc_cpu *cpu, uint64_t pc) {
    unsigned count = cpu->port.places.noted_count;
    if (count && cpu->port.places.noted[count - 1].pc == pc) cpu->port.places.noted_count = 0;
}

/* Where the last instruction stands, and behind it four words for each access since this was asked last. */
uint64_t sc_noted_accesses(sc_cpu *cpu, uint64_t ret[1 + 4 * NOTED_MAX]) {
    uint64_t count = cpu->port.places.noted_count;
    ret[0] = cpu->port.places.pc;
    memcpy(ret + 1, cpu->port.places.noted, count * sizeof cpu->port.places.noted[0]);
    cpu->port.places.noted_count = 0;
    return count;
}

/* `count` times hpa, bytes, and whether accesses are told, or changes only. `known` lives until the next call. False: too
 * many, or there is no RAM. */
bool sc_watch_places(sc_cpu *cpu, const uint64_t *places, uint64_t count, const uint8_t *known) {
    if (count > PLACES_MAX) return false;
    for (uint64_t i = 0; i < count; i++)
        if (!places[3 * i + 1] || !is_ram(cpu, places[3 * i], places[3 * i + 1])) return false;
    bool told = cpu->port.places.tells_accesses;
    cpu->port.places.tells_accesses = false;
    for (uint64_t i = 0; i < count; i++) {
        cpu->port.places.at[i].hpa = places[3 * i];
        cpu->port.places.at[i].bytes = places[3 * i + 1];
        cpu->port.places.at[i].tells_accesses = places[3 * i + 2];
        cpu->port.places.tells_accesses |= cpu->port.places.at[i].tells_accesses;
    }
    bool were_there = cpu->port.places.count, are_there = count;
    cpu->port.places.count = (unsigned)count;
    cpu->port.places.noted_count = 0;
    cpu->port.places.known = known;
    if (were_there != are_there || told != cpu->port.places.tells_accesses) cpu->port.spans.is_due = true;
    watch(cpu);
    return true;
}
