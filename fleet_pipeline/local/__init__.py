"""AWS on this machine: start, find and stop the emulator. Nothing else in the house knows that it is one."""
