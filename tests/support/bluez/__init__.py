"""A stand-in for bluetoothd on a message bus of its own, so that bleak's BlueZ backend runs here.

It has what bleak uses of org.bluez: the adapter with its discovery sessions and advertisement
monitors, devices, and the GATT objects below them, with BlueZ's paths, properties, signals and
errors (BlueZ 5.8x: doc/org.bluez.*.rst, src/adapter.c, src/device.c, src/gatt-client.c).

What it does not model: classic Bluetooth, agents and the dialogue of pairing, GATT servers,
descriptors, long writes, the cache of services and bonds on disk, the delays of a radio (BlueZ
takes 2 s for Disconnect), the kernel's duplicate filter and the pauses of its scan, several
adapters, and BlueZ's habit to put several changes into one signal.
"""
