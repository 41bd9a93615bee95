"""Hardware that is not there, played by programs that speak its real protocols: a phone's boot loader (fastboot).

What a virtual board hears by radio: a modem with SIM and network (at, ppp), a satellite receiver (nmea).

Devices are pure: bytes in, bytes out. `line` runs one on a pseudo-terminal or on a port of QEMU; `radio` gives a
machine the devices that its image wants. To add a device: a module with a class that has the three methods of
`line.Device`.
"""
