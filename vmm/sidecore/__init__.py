"""The sidecore: a core that is always in the VMM and serves guests over a shared page. See README.md."""
