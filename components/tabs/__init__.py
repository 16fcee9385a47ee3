"""Tabs of the page, one file for each."""
