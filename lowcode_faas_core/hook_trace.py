"""A line on stderr for each hook that is called, for whoever asks what a plugin is asked, and when."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import pluggy

__all__ = ["HookTrace"]


class HookTrace:
    """Says hook, plugin, distribution, type of the result and milliseconds.

    Of arguments and results nothing but the type: the environment holds secrets.
    """

    def __init__(self, whose: Callable[[str], str]) -> None:
        #: Gives a plugin's name and distribution by the name it is registered under.
        self._whose = whose
        #: When the calls under way began, in ``perf_counter_ns``; a hook may call another.
        self._began: list[int] = []

    def attach(self, manager: pluggy.PluginManager) -> None:
        """Listen to every call of ``manager``, as long as that lives."""
        manager.add_hookcall_monitoring(self._before, self._after)

    def _before(self, _hook: str, _impls: Sequence[Any], _arguments: Mapping[str, Any]) -> None:
        self._began.append(time.perf_counter_ns())

    def _after(
        self,
        outcome: pluggy.Result[Any],
        hook: str,
        impls: Sequence[pluggy.HookImpl],
        _arguments: Mapping[str, Any],
    ) -> None:
        took_ms = (time.perf_counter_ns() - self._began.pop()) / 1e6
        if not impls:
            return  # the plugin does not have this hook
        if outcome.exception is not None:
            answer = f"raised {type(outcome.exception).__name__}"
        else:
            # pluggy leaves a None out.
            answer = ", ".join(type(each).__name__ for each in outcome.get_result()) or "None"
        whose = " and ".join(self._whose(each.plugin_name) for each in impls)
        # One write a line, so that those of several processes do not mix.
        sys.stderr.write(f"lowcode-faas: hook {hook} of {whose}: {answer}, {took_ms:.2f} ms\n")
