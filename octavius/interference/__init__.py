"""The interference lab: how much tasks pull at each other's gradients, and what the experts do about it."""
