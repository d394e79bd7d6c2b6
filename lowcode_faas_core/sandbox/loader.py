"""The command that starts Node and waits for its bootstrap on a descriptor."""

from __future__ import annotations

import re
from collections.abc import Sequence
from importlib import resources
from typing import Final

__all__ = ["LOADER", "bootstrap", "loader_command"]

#: Reads the greeting (``token(16) length(4) bootstrap-source``) and runs the bootstrap as CommonJS.
#: The source comes by the channel because an argument ends at 131,071 bytes, and the token because
#: arguments are readable by whoever may look into ``/proc``. ``Buffer.alloc`` is never pooled: user
#: code could otherwise read the token out of the pool its own small buffers share.
LOADER: Final = """'use strict';{
const fs = require('node:fs'), vm = require('node:vm'), [, input, output, error] = process.argv;
const read = (size) => {
  const bytes = Buffer.alloc(size);
  for (let at = 0, got; at < size; at += got) {
    try { got = fs.readSync(+input, bytes, at, size - at, null); }
    catch (cause) {
      if (cause.code !== 'EAGAIN') throw cause;
      Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, 1);
      got = 0; continue;
    }
    if (got === 0) process.reallyExit(0);
  }
  return bytes;
};
const token = read(16), source = read(read(4).readUInt32BE(0)).toString('utf8');
const names = ['require', 'load', 'token', 'IN', 'OUT', 'ERR'];
vm.compileFunction(source, names, { filename: 'lowcode-faas:bootstrap' })(
  require, (url) => import(url), token, +input, +output, error === '-' ? -1 : +error);
}"""


def loader_command(
    node_flags: Sequence[str], *, input_fd: int, output_fd: int, error_fd: int | None = None
) -> list[str]:
    """Return the arguments that follow the path of Node: flags, loader, descriptors."""
    error = "-" if error_fd is None else str(error_fd)
    return [*node_flags, "-e", LOADER, str(input_fd), str(output_fd), error]


_for_readers = re.compile(rb"^ +(?://[^\n]*)?|^//[^\n]*", re.M).sub


def bootstrap() -> bytes:
    """Return the source of the bootstrap, for the greeting, without what only its readers need.

    V8 keeps a source for as long as it may have to compile a function of it: each sandbox would have
    the comments in its memory. Lines stay where they are, for traces.
    """
    source = resources.files(__package__).joinpath("bootstrap.cjs").read_bytes()
    return _for_readers(b"", source)
