"""The module names of release 0.1: importing an old name gives the present module.

    from mrcnn.folder import detect_folder      # is mrcnn.detection.folder

Python asks `_MovedModules` for a module of this package that has no file. The package itself uses
no old name.
"""

from __future__ import annotations

import importlib
import importlib.abc
import importlib.machinery
import sys
from collections.abc import Sequence
from types import ModuleType

MOVED = {
    "mrcnn.callbacks": "mrcnn.training.callbacks",
    "mrcnn.distribution": "mrcnn.training.distribution",
    "mrcnn.folder": "mrcnn.detection.folder",
    "mrcnn.hdf5": "mrcnn.weights.hdf5",
    "mrcnn.inference": "mrcnn.detection",
    "mrcnn.logs": "mrcnn.training.event_files",
    "mrcnn.pickles": "mrcnn.weights.pickles",
    "mrcnn.pytorch": "mrcnn.weights.torch_files",
    "mrcnn.results": "mrcnn.detection.result_files",
}


class _MovedModules(importlib.abc.MetaPathFinder, importlib.abc.Loader):
    """A finder and loader of the modules in `MOVED`."""

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> importlib.machinery.ModuleSpec | None:
        if fullname not in MOVED:
            return None
        return importlib.machinery.ModuleSpec(fullname, self)

    def create_module(self, spec: importlib.machinery.ModuleSpec) -> None:
        return None

    def exec_module(self, module: ModuleType) -> None:
        # Afterwards, the import system uses the module that it finds under this name.
        sys.modules[module.__name__] = importlib.import_module(MOVED[module.__name__])


sys.meta_path.append(_MovedModules())
