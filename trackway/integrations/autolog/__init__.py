"""One line for every framework: ``trackway.autolog()``.

    import trackway as tw

    tw.autolog()            # before or after the frameworks are imported

It inserts the very objects of ``trackway.integrations`` at one choke point of each framework.
Nothing is imported by it: a framework that is loaded later is patched when it is.
"""

from __future__ import annotations

from trackway.integrations.autolog._autolog import Autolog, autolog

__all__ = ["Autolog", "autolog"]
