"""Seeded defects: small patches of the product that somebody in a hurry could have written, one list for each kind.

`defect` says what a seeded defect is, how it is planted and whose failure counts as having caught it. The lists are the
modules named `in_…`, together `catalogue`; each also holds the scenes in which its defects are looked for: the other
proofs, cut down to what shows them. `prove_seeded_defects` plants them all, one after the other.
"""
