-- Tells the planner how much the load put there; without it a nested loop may look cheap.
ANALYZE pg_temp.part_read
