"""Hosts, guests, links and switches that a script describes, builds and runs: what `import sidecore` gives.

World --add_host--> Host --add_guest--> Guest        descriptions: specs and what was added, nothing is made yet
  |  build(), once: plan.py, build.py                the same way as `sidecore boot`
  v
run(Limits) --> Stop, any number of times            Guest.output, .end, .exits, .stats
snapshot() --> SavedWorld                            saved.py; timeline.py goes back by it
"""

from vmm.session.world.guest import Guest
from vmm.session.world.host import Host, HostDescription
from vmm.session.world.link import Link
from vmm.session.world.saved import SavedWorld
from vmm.session.world.switch import EthernetSwitch
from vmm.session.world.timeline import Timeline
from vmm.session.world.world import Stop, World, WorldSpec

__all__ = [
    "EthernetSwitch",
    "Guest",
    "Host",
    "HostDescription",
    "Link",
    "SavedWorld",
    "Stop",
    "Timeline",
    "World",
    "WorldSpec",
]
