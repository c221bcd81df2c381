-- Whether a row may have been written by a transaction that was not over yet. Their numbers go round after 2^32; ages are
-- right for those of the last half round, and of any other the row counts as newer.
age(xmin) <= (SELECT age({oldest_open}::xid))
