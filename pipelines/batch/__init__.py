"""Thousands of captions that cannot get lost: inputs, ledger, engine, exports. Torch-free.

`inputs` names what there is to do, `engine` does it with a model given from outside, `ledger`
remembers on disk what was done, `export` writes it down for people and programs.
"""
