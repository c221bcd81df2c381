"""Long proofs: `make prove` runs them all and prints a scorecard; PROOFS="-k crash" chooses some.

`prove_matching`, `prove_applying` and `prove_portions`: section 4 of the rules, in memory and in PostgreSQL, on many
thousand worlds.
`prove_hostile_values`: text, ids, e-mails and phones that break importers; `prove_hostile_mail`: what a mail makes of
them. `prove_concurrent_edits`: people who edit at every moment of a run. `prove_crashes`: death at every statement, file,
call and mail. `prove_salesforce_faults`: whatever Salesforce does wrong. `prove_a_life`: all of that in any order.
`prove_seeded_defects`: that the proofs catch what they are for, with the defects that are listed in `seeded`; `make
mutate` asks the same of the pure core, change by change, with mutmut; `surviving_mutants.md` says why those that nobody
notices are harmless.
"""
