"""Virtual boards: QEMU machines made from published images, their consoles, and the boot checks."""
