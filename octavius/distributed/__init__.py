"""Training on several processes, and the precision of a device."""
