"""Runs a program on a pseudo terminal of 24 lines and 80 columns; what it writes goes to stdout, what comes on stdin is typed."""

import fcntl
import os
import pty
import select
import struct
import sys
import termios

child, terminal = pty.fork()
if child == 0:
    # The size has to be there before the program looks.
    fcntl.ioctl(0, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 80, 0, 0))
    os.execvp(sys.argv[1], sys.argv[1:])

keyboard = [0]
while True:
    readable, _, _ = select.select([terminal, *keyboard], [], [])
    if terminal in readable:
        try:
            written = os.read(terminal, 65536)
        except OSError:
            written = b""
        if not written:
            break
        os.write(1, written)
    if 0 in readable:
        typed = os.read(0, 1024)
        if typed:
            os.write(terminal, typed)
        else:
            keyboard = []
_, status = os.waitpid(child, 0)
sys.exit(os.waitstatus_to_exitcode(status) % 256)
