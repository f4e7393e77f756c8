"""A virtual Pi: Debian's kernel and systemd under qemu, with the bench's devices on its wires.

What a simulated bus cannot show is real in it: the kernel's I2C, GPIO and serial drivers, USB that
comes back under another name, the shipped unit, a disk that forgets what was not flushed.
"""
