"""How a picture is painted: the stylizers, what chooses among them, and `impasto.stylize(content, style)` itself.

The library's one-shot call and this folder have the same name, and importing any module of the folder makes Python bind
`impasto.stylize` to the folder. So the folder can be called: that is `api.stylize`, whichever was imported first.
"""

import sys
from types import ModuleType
from typing import Any


class _CallableFolder(ModuleType):
    def __call__(self, *args: Any, **options: Any) -> Any:
        from .api import stylize

        return stylize(*args, **options)


sys.modules[__name__].__class__ = _CallableFolder
