"""Devices, background work, caches in memory and packed layers."""
