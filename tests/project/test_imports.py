"""What imports what: layers are for lint; here no module is part of a circle, a package's own module included."""

from graphlib import TopologicalSorter

import grimp

PACKAGES = ("benchmarks", "vmm", "devices", "emulator", "guest_images")


def test_no_module_is_in_an_import_circle_and_imports_for_types_count() -> None:
    graph = grimp.build_graph(*PACKAGES, exclude_type_checking_imports=False, cache_dir=None)
    imported = {module: graph.find_modules_directly_imported_by(module) for module in graph.modules}
    assert len(imported) > 200
    TopologicalSorter(imported).prepare()  # a CycleError names the circle
