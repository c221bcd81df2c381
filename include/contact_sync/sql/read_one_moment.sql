-- Lets every query of this transaction see the store as it is at the first one.
SET TRANSACTION ISOLATION LEVEL REPEATABLE READ, READ ONLY
