"""What a NIC has done, as plain numbers for reports: by microengine and context, unit, ring, port, and VIF."""

from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from devices.nic.chip import Chip
from devices.nic.microengine import Context, Microengine


def statistics(chip: Chip, microengines: Sequence[Microengine]) -> dict[str, Any]:
    """Times are in picoseconds; `now_ps` is when all of it is true."""
    mac = chip.mac
    return {
        "now_ps": chip.events.now_ps,
        "microengines": {
            number: _microengine(chip, engine) for number, engine in enumerate(microengines) if engine.contexts
        },
        "units": {name: usage.statistics() for name, usage in chip.usages().items()},
        "rings": {
            number: {"puts": ring.puts, "depth": ring.depth, "depth_max": ring.depth_max}
            for number, ring in enumerate(chip.rings)
            if ring.puts
        },
        "mac": {"arrived": mac.arrived, "sent": mac.sent, "drops": dict(mac.drops), "buffers": mac.buffers()},
        "vifs": {
            number: asdict(vif.counters)
            | {"sends_in_work": vif.sends_in_work, "receives_in_work": vif.receives_in_work}
            for number, vif in sorted(chip.vifs.vifs.items())
        },
    }


def _microengine(chip: Chip, engine: Microengine) -> dict[str, Any]:
    contexts = [_context(chip, context) for context in engine.contexts]
    executing_ps = sum(context["executing_ps"] for context in contexts)
    polling_ps = sum(context["polling_ps"] for context in contexts)
    return {
        "program": engine.contexts[0].name,
        "executing_ps": executing_ps,
        "polling_ps": polling_ps,
        "idle_ps": max(0, chip.events.now_ps - executing_ps - polling_ps),
        "swaps": sum(context["swaps"] for context in contexts),
        "contexts": contexts,
    }


def _context(chip: Chip, context: Context) -> dict[str, Any]:
    poller = context.poller
    polls = 0 if poller is None else poller.polls_until(chip.events.now_ps)
    return {
        "state": context.state,
        "executing_ps": context.executing_ps,
        "waiting_ps": context.waiting_ps,
        "swaps": context.swaps,
        "polls": polls,
        "polling_ps": polls * chip.loop_ps,
    }
