"""Captions of many images: engine, ledger, exports, on one machine or a Ray cluster."""
